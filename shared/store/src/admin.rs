//! Administration of database servers, for the project's own tooling: replica sets, pings, users, test
//! databases. No service calls this.

use std::time::Duration;

use mongodb::{
    Client,
    bson::doc,
    error::{ErrorKind, Result},
};

/// MongoDB's code for `replSetInitiate` on a server that is already a member.
const ALREADY_INITIALIZED: i32 = 23;

/// Time without a heartbeat after which members elect another primary. A fifth of the default, so that tests of it end.
const ELECTION_TIMEOUT_MS: i32 = 2000;

/// Makes the `mongod`s on these local ports (started with `--replSet {set_name}`) the members of a replica set, and waits
/// without a limit until the first of them takes writes. Does nothing if it is a member already.
pub async fn initiate_replica_set(ports: &[u16], set_name: &str) -> Result<()> {
    let Some(first) = ports.first() else { return Ok(()) };
    let admin = direct_client(*first).await?.database("admin");
    let members = (0..).zip(ports);
    let members = members.map(|(id, port): (i32, _)| {
        doc! { "_id": id, "host": format!("127.0.0.1:{port}") }
    });
    let config = doc! {
        "_id": set_name,
        "members": members.collect::<Vec<_>>(),
        "settings": { "electionTimeoutMillis": ELECTION_TIMEOUT_MS },
    };
    if let Err(error) = admin.run_command(doc! { "replSetInitiate": config }).await {
        match &*error.kind {
            ErrorKind::Command(command) if command.code == ALREADY_INITIALIZED => {}
            _ => return Err(error),
        }
    }
    while !is_primary(*first).await? {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Returns true if the `mongod` on a local port takes writes.
pub async fn is_primary(port: u16) -> Result<bool> {
    let admin = direct_client(port).await?.database("admin");
    let hello = admin.run_command(doc! { "hello": 1 }).await?;
    Ok(hello.get_bool("isWritablePrimary").unwrap_or(false))
}

/// Makes the secondary on a local port the primary, if the others vote for it.
pub async fn step_up(port: u16) -> Result<()> {
    let admin = direct_client(port).await?.database("admin");
    admin.run_command(doc! { "replSetStepUp": 1 }).await.map(drop)
}

/// Switches a fail point of the `mongod` on a local port, which was started with `enableTestCommands`, on or off.
pub async fn set_fail_point(port: u16, name: &str, on: bool) -> Result<()> {
    let admin = direct_client(port).await?.database("admin");
    let mode = if on { "alwaysOn" } else { "off" };
    admin.run_command(doc! { "configureFailPoint": name, "mode": mode }).await.map(drop)
}

/// Pings the `mongod` on a local port.
pub async fn ping(port: u16) -> Result<()> {
    let admin = direct_client(port).await?.database("admin");
    admin.run_command(doc! { "ping": 1 }).await.map(drop)
}

/// Makes the primary on a local port a secondary for so long, without another primary.
pub async fn step_down(port: u16, seconds: u32) -> Result<()> {
    let admin = direct_client(port).await?.database("admin");
    admin.run_command(doc! { "replSetStepDown": seconds, "force": true }).await.map(drop)
}

/// Lets a secondary become primary again before the time of [`step_down`] is over.
pub async fn end_step_down(port: u16) -> Result<()> {
    let admin = direct_client(port).await?.database("admin");
    admin.run_command(doc! { "replSetFreeze": 0 }).await.map(drop)
}

/// Creates a user with one role in one database, who needs no `authSource` to log in.
pub async fn create_user(
    uri: &str,
    user: &str,
    password: &str,
    role: &str,
    database: &str,
) -> Result<()> {
    let roles = [doc! { "role": role, "db": database }];
    let command = doc! { "createUser": user, "pwd": password, "roles": roles.to_vec() };
    Client::with_uri_str(uri).await?.database("admin").run_command(command).await.map(drop)
}

/// Creates a user with one role in one database, who logs in with a certificate of this subject.
pub async fn create_certificate_user(
    uri: &str,
    subject: &str,
    role: &str,
    database: &str,
) -> Result<()> {
    let roles = [doc! { "role": role, "db": database }];
    let command = doc! { "createUser": subject, "roles": roles.to_vec() };
    Client::with_uri_str(uri).await?.database("$external").run_command(command).await.map(drop)
}

/// Drops a database.
pub async fn drop_database(uri: &str, database: &str) -> Result<()> {
    Client::with_uri_str(uri).await?.database(database).drop().await
}

async fn direct_client(port: u16) -> Result<Client> {
    let limits = "serverSelectionTimeoutMS=2000&connectTimeoutMS=2000";
    Client::with_uri_str(format!("mongodb://127.0.0.1:{port}/?directConnection=true&{limits}"))
        .await
}
