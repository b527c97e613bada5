//! Administration of database servers, for the project's own tooling: replica sets, pings, users, test
//! databases. No service calls this.

use std::time::Duration;

use mongodb::{
    Client,
    bson::{Document, doc},
    error::{Error, ErrorKind},
    options::{ClientOptions, ServerAddress},
};

/// MongoDB's code for `replSetInitiate` on a server that is already a member.
const ALREADY_INITIALIZED: i32 = 23;

/// Makes the `mongod` at `host:port` (started with `--replSet {set_name}`) the only member of its
/// replica set, and waits without a limit until it takes writes. Does nothing if it is a member already.
pub async fn initiate_replica_set(
    host: &str,
    port: u16,
    set_name: &str,
) -> Result<(), mongodb::error::Error> {
    let client = direct_client(host, port)?;
    let member = format!("{host}:{port}");
    let config = doc! { "_id": set_name, "members": [{ "_id": 0, "host": member }] };
    let initiated = client.database("admin").run_command(doc! { "replSetInitiate": config }).await;
    match initiated {
        Err(error) if !already_initialized(&error) => return Err(error),
        _ => {}
    }
    loop {
        let hello: Document = client.database("admin").run_command(doc! { "hello": 1 }).await?;
        if hello.get_bool("isWritablePrimary").unwrap_or(false) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Pings the `mongod` at `host:port`.
pub async fn ping(host: &str, port: u16) -> Result<(), mongodb::error::Error> {
    let client = direct_client(host, port)?;
    client.database("admin").run_command(doc! { "ping": 1 }).await?;
    Ok(())
}

/// Creates a user with one role in one database, who needs no `authSource` to log in.
pub async fn create_user(
    uri: &str,
    user: &str,
    password: &str,
    role: &str,
    database: &str,
) -> Result<(), mongodb::error::Error> {
    let roles = [doc! { "role": role, "db": database }];
    let command = doc! { "createUser": user, "pwd": password, "roles": roles.to_vec() };
    Client::with_uri_str(uri).await?.database("admin").run_command(command).await.map(drop)
}

/// Drops a database.
pub async fn drop_database(uri: &str, database: &str) -> Result<(), mongodb::error::Error> {
    Client::with_uri_str(uri).await?.database(database).drop().await
}

fn direct_client(host: &str, port: u16) -> Result<Client, mongodb::error::Error> {
    let options = ClientOptions::builder()
        .hosts(vec![ServerAddress::Tcp { host: host.to_owned(), port: Some(port) }])
        .direct_connection(true)
        .server_selection_timeout(Duration::from_secs(2))
        .connect_timeout(Duration::from_secs(2))
        .build();
    Client::with_options(options)
}

fn already_initialized(error: &Error) -> bool {
    matches!(&*error.kind, ErrorKind::Command(command) if command.code == ALREADY_INITIALIZED)
}
