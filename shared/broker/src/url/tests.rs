use super::*;

fn error(text: &str) -> String {
    BrokerUrl::parse(text).unwrap_err().to_string()
}

#[test]
fn a_vhost_and_a_password_survive_and_what_is_not_said_is_added() {
    let url = BrokerUrl::parse("amqp://us%40er:p%2Fw@localhost:5673/a%2fb").unwrap();
    let again: AMQPUri = url.expose().parse().unwrap();
    assert_eq!(again.vhost, "a/b");
    assert_eq!(again.authority.userinfo.password, "p/w");
    assert_eq!(again.authority.userinfo.username, "us@er");
    assert_eq!(again.query.heartbeat, Some(10));
    assert_eq!(again.query.frame_max, Some(16_384));
    assert_eq!(url.endpoint().port, 5673);
}

#[test]
fn some_connections_have_another_heartbeat_or_larger_frames() {
    let url = BrokerUrl::parse("amqp://localhost?heartbeat=30&frame_max=32768").unwrap();
    let limits = |url: BrokerUrl| {
        let again: AMQPUri = url.expose().parse().unwrap();
        (again.query.heartbeat, again.query.frame_max)
    };
    assert_eq!(limits(url.with_heartbeat(2)), (Some(2), Some(32_768)));
    assert_eq!(limits(url.with_largest_frames()), (Some(30), Some(131_072)));
    assert!(!url.names_mechanism());
    let named = BrokerUrl::parse("amqp://localhost?auth_mechanism=PLAIN").unwrap();
    assert!(named.names_mechanism());
}

#[test]
fn an_ipv6_address_is_a_host() {
    let endpoint = |text| BrokerUrl::parse(text).unwrap().endpoint().as_ref().clone();
    assert_eq!(endpoint("amqp://[::1]:5673").host, "::1");
    assert_eq!(endpoint("amqp://[::1]").port, 5672);
    let tls = endpoint("amqps://[2001:db8::1]");
    assert_eq!((tls.port, tls.tls.unwrap().server_name.as_str()), (5671, "2001:db8::1"));
}

#[test]
fn its_debug_form_has_no_password() {
    let url = BrokerUrl::parse("amqp://user:hunter2@localhost/%2f").unwrap();
    assert_eq!(format!("{url:?}"), "amqp://localhost:5672");
}

#[test]
fn what_is_no_amqp_uri_is_refused_without_repeating_it() {
    for text in [
        "http://user:hunter2@localhost",
        "user:hunter2@localhost",
        "amqp:user:hunter2@localhost",
        "amqp://user:hunter2",
        "amqp://user:hunter2#x@localhost",
        "amqp://user:hunter2@localhost:0",
        "amqp://user:hunter2%ff@localhost",
        "amqps://user:hunter2@localhost?password=hunter2",
        "amqp://user:1?hunter2@localhost",
        "amqp://user:1?hunter2=a@localhost",
    ] {
        let error = error(text);
        assert!(!error.contains("hunter2"), "{text}: {error}");
    }
}

#[test]
fn the_reason_says_what_to_change() {
    for (text, reason) in [
        ("amqp://u:p@host:99999", "port"),
        ("amqp://u:p@host:abc", "port"),
        ("amqp://u:p@host:0", "port"),
        ("amqp://u:p@h1:5672,h2:5672", "port"),
        ("amqp://u:p@h1,h2:5672", "one name"),
        ("amqp://u:p@/vhost", "no host"),
        ("amqp://", "no host"),
        ("amqp:///vhost", "no host"),
        ("amqp:localhost", "no host"),
        ("localhost", "scheme"),
        ("amqp://u:p@[::1/vhost", "host"),
        ("amqp://u:p@[::x]/vhost", "host"),
        ("amqp://u:p@h/a/b", "%2f"),
        ("amqp://u:p@h//", "%2f"),
        ("amqp://u:a%b@h", "%25"),
        ("amqp://u%:p@h", "%25"),
        ("amqp://u:p@h/100%", "%25"),
        ("amqp://u:p@h/a#b", "%23"),
        ("amqp://guest@h", "without a password"),
        ("amqp://guest@h?auth_mechanism=AMQPLAIN", "without a password"),
        ("amqp://:guest@h", "without a user"),
    ] {
        let error = error(text);
        assert!(error.contains(reason), "{text}: {error}");
    }
    for text in ["amqp://h", "amqp://guest@h?auth_mechanism=ANONYMOUS", "amqp://u:p@my_host-1.a"] {
        assert!(BrokerUrl::parse(text).is_ok(), "{text}");
    }
}

#[test]
fn parameters_have_an_effect() {
    let parameters = "heartbeat=30&frame_max=32768&channel_max=64&connection_timeout=2000\
                      &auth_mechanism=amqplain";
    let url = BrokerUrl::parse(&format!("amqp://localhost?{parameters}")).unwrap();
    let limits = &url.uri.query;
    assert_eq!((limits.heartbeat, limits.frame_max), (Some(30), Some(32_768)));
    assert_eq!(limits.channel_max, Some(64));
    assert_eq!(url.connect_timeout(), Duration::from_secs(2));
    assert_eq!(limits.auth_mechanism.unwrap().name(), "AMQPLAIN");
    let spaced = BrokerUrl::parse("amqp://localhost?heartbeat=%2030%20").unwrap();
    assert_eq!(spaced.uri.query.heartbeat, Some(30));
    let url =
        BrokerUrl::parse("amqps://localhost?verify=verify_peer&server_name_indication=mq.example");
    assert_eq!(url.unwrap().endpoint().tls.as_ref().unwrap().server_name, "mq.example");
}

#[test]
fn the_key_is_in_its_own_file_or_in_that_of_the_certificate() {
    for (text, key) in [("certfile=/a", "/a"), ("certfile=/a&keyfile=/b", "/b")] {
        let identity = Query::parse(text, true).unwrap().tls.identity.unwrap();
        assert_eq!((identity.certificate, identity.key), ("/a".into(), key.into()), "{text}");
    }
}

#[test]
fn a_parameter_without_effect_is_never_ignored_silently() {
    for (query, name) in [
        ("heartbeat=0", "heartbeat"),
        ("heartbeat=ten", "heartbeat"),
        ("frame_max=64", "frame_max"),
        ("channel_max=65536", "channel_max"),
        ("connection_timeout=0", "connection_timeout"),
        ("auth_mechanism=GSSAPI", "auth_mechanism"),
        ("auth_mechanism=EXTERNAL", "auth_mechanism"),
        ("certfile=/cert.pem", "certfile"),
        ("verify=verify_none", "verify"),
        ("ssl_options=x", "ssl_options"),
        ("Heartbeat=10", "Heartbeat"),
        ("heartbeat=10&heartbeat=20", "heartbeat"),
        ("heartbeat=", "heartbeat"),
    ] {
        let error = error(&format!("amqp://localhost/%2f?{query}"));
        assert!(error.contains(&format!("parameter {name} ")), "{query}: {error}");
    }
    for (query, name) in [
        ("verify=verify_none", "verify"),
        ("server_name_indication=disable", "server_name_indication"),
        ("keyfile=/key.pem", "keyfile"),
        ("cacertfile=/nowhere/ca.pem", "/nowhere/ca.pem"),
        ("certfile=/nowhere/cert.pem", "/nowhere/cert.pem"),
        ("server_name_indication=a%20b", "a b"),
        ("cacertfile=/nowhere/a+b.pem", "/nowhere/a+b.pem"),
        ("cacertfile=%20", "cacertfile has no value"),
        ("a:b/c=1", "parameter (not shown) is unknown"),
    ] {
        let error = error(&format!("amqps://localhost/%2f?{query}"));
        assert!(error.contains(name), "{query}: {error}");
    }
    let url = BrokerUrl::parse("amqps://localhost/?depth=2").unwrap();
    let warnings = url.warnings().join("; ");
    assert!(warnings.contains("depth") && warnings.contains("vhost"), "{warnings}");
}
