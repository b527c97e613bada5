use super::*;

fn error(uri: &str) -> String {
    uri.parse::<MongoUri>().expect_err(uri).to_string()
}

fn warnings(query: &str) -> String {
    format!("mongodb://host/?{query}").parse::<MongoUri>().unwrap().warnings.join("; ")
}

#[test]
fn a_bad_connection_string_is_refused_without_repeating_it() {
    for uri in [
        "http://user:hunter2@host",
        "user:hunter2@host",
        "user:hunter2://host",
        "mongodb://user:hunter2",
        "mongodb://user:a@hunter2@host",
        "mongodb://user:a/hunter2@host",
        "mongodb://user:a%hunter2@host",
        "mongodb://user:%€hunter2@host",
        "mongodb://user:€hunter2@host",
        "mongodb://user:a?hunter2@host",
        "mongodb://user:a?hunter2@host/?tls=true",
        "mongodb://user:1?hunter2=a@host",
        "mongodb://h/?authMechanism=PLAIN&authMechanismProperties=hunter2",
        "mongodb://h/?tlsCertificateKeyFilePassword=hunter2",
        "mongodb://h/?proxyPassword=hunter2",
        "mongodb+srv://user:hunter2@host:27017",
    ] {
        let error = error(uri);
        assert!(!error.contains("hunter2"), "{uri}: {error}");
    }
}

#[test]
fn what_must_be_percent_encoded_is_told() {
    for user in ["user:a%b", "user:%", "us%er:p", "user:p?"] {
        let error = error(&format!("mongodb://{user}@host/"));
        assert!(error.contains("special characters in user and password"), "{user}: {error}");
    }
}

#[test]
fn the_debug_form_has_no_password() {
    let uri: MongoUri = "mongodb://user:hunter2@host/?replicaSet=rs0".parse().unwrap();
    let debug = format!("{uri:?}");
    assert!(!debug.contains("hunter2"), "{debug}");
}

#[test]
fn what_would_break_a_promise_is_refused_by_name() {
    for option in [
        "w=0",
        "w=1",
        "w=2",
        "journal=false",
        "readPreference=secondary",
        "readPreference=primaryPreferred",
        "readConcernLevel=local",
        "tlsAllowInvalidHostnames=true",
        "authMechanism=MONGODB-X509",
        "authMechanism=GSSAPI",
        "socketTimeoutMS=soon",
        "unknown=1",
        "retryWrites=perhaps",
        "tls=",
        "tls",
        "zlibCompressionLevel=12&compressors=zlib",
        "tlsAllowInvalidCertificates=true",
        "tlsInsecure=true",
        "tlsInsecure=maybe",
        "connect=maybe",
        "tz_aware=maybe",
        "uuidRepresentation=bogus",
        "waitQueueMultiple=many",
        "tls=true&tls=true",
        "replicaSet=a&replicaSet=b",
        "retryWrites=true&RETRYWRITES=false",
        "socketTimeoutMS=1&socketTimeoutMS=2",
        "ssl=maybe",
        "tlsCAFile=/ca.pem&ssl=false",
        "maxStalenessSeconds=100",
        "maxStalenessSeconds=100&readPreference=primary",
        "readPreferenceTags=dc:ny",
        "serverMonitoringMode=often",
        "authMechanism=PLAIN",
        "authMechanism=SCRAM-SHA-256",
        "authMechanism=MONGODB-OIDC",
        "authMechanism=MONGODB-OIDC&authMechanismProperties=ENVIRONMENT:azure,TOKEN_RESOURCE:a",
        "authMechanism=MONGODB-OIDC&authMechanismProperties=ENVIRONMENT:gcp,TOKEN_RESOURCE:a",
        "maxConnecting=0",
        "srvMaxHosts=1",
    ] {
        let name = option.split('=').next().unwrap();
        let error = error(&format!("mongodb://host/?{option}"));
        let named = error.to_lowercase().contains(&format!("option {} ", name.to_lowercase()));
        assert!(named, "{option}: {error}");
        assert!(!error.contains(['{', '[']), "{option}: {error}");
        assert!(!error.contains("kind:") && !error.contains("feature"), "{option}: {error}");
    }
}

#[test]
fn the_one_option_that_is_wrong_is_named() {
    for (query, reason) in [
        ("replicaSet=a&retryWrites=perhaps", "option retryWrites cannot be used"),
        ("retryWrites=true&authMechanism=PLAIN", "option authMechanism cannot be used"),
        ("replicaSet=a&tls=", "option tls has no value"),
        ("a:b/c=1", "option (not shown) cannot be used"),
    ] {
        let error = error(&format!("mongodb://host/?{query}"));
        assert!(error.contains(reason), "{query}: {error}");
    }
}

#[test]
fn an_option_with_two_names_is_there_once() {
    for query in ["ssl=true&tls=false", "tls=true&ssl=true", "journal=true&j=true"] {
        let error = error(&format!("mongodb://host/?{query}"));
        let second = query.split('&').next_back().unwrap().split('=').next().unwrap();
        assert!(error.contains(&format!("option {second} is there twice")), "{query}: {error}");
    }
}

#[test]
fn what_other_drivers_accept_is_accepted() {
    for harmless in [
        "w=majority&journal=true&readPreference=primary&readConcernLevel=majority",
        "uuidRepresentation=standard",
        "compressors=zlib,snappy&zlibCompressionLevel=6",
        "authMechanism=MONGODB-OIDC&authMechanismProperties=ENVIRONMENT:k8s",
        "authMechanism=MONGODB-OIDC&authMechanismProperties=ENVIRONMENT%3Ak8s",
        "compressors=zlib%2Csnappy",
        "w= majority &journal=true ",
        "tls=true&tlsInsecure=false&tlsAllowInvalidHostnames=false&maxStalenessSeconds=-1",
        "retryWrites=false&retryReads=true&directConnection=false&maxIdleTimeMS=60000",
        "",
    ] {
        assert_eq!(warnings(harmless), "", "{harmless}");
    }
    for (option, named) in [
        ("uuidRepresentation=pythonLegacy", "uuidRepresentation"),
        ("socketTimeoutMS=20000", "socketTimeoutMS"),
        ("tz_aware=true", "tz_aware"),
        ("document_class=dict", "document_class"),
        ("connect=false", "connect"),
        ("appName=devrel", "appName"),
        ("maxPoolSize=10", "maxPoolSize"),
        ("compressors=zstd,zlib", "compressors"),
        ("compressors=zstd", "compressors"),
        ("wtimeout=5000", "wtimeout"),
        ("compressors=snappy&zlibCompressionLevel=3", "zlibCompressionLevel"),
    ] {
        assert!(warnings(option).contains(named), "{option}");
    }
}

#[test]
fn a_database_without_effect_is_noticed() {
    let unused = |uri: &str| uri.parse::<MongoUri>().unwrap().unused_database;
    assert_eq!(unused("mongodb://host/chat"), Some("chat".to_owned()));
    assert_eq!(unused("mongodb://u:p@host/chat?authSource=admin"), Some("chat".to_owned()));
    assert_eq!(unused("mongodb://u:p@host/admin"), None);
    for without in ["mongodb://host", "mongodb://host/", "mongodb://host?replicaSet=rs0"] {
        assert_eq!(unused(without), None, "{without}");
    }
    assert_eq!(unused("mongodb+srv://u:p@host.example.com/?tls=false"), None);
}
