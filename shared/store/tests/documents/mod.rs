//! Stored documents, changed behind the store's back.

use anyhow::{Result, ensure};
use contracts::MessageId;
use mongodb::{
    Client,
    bson::{self, Document, doc},
};
use testkit::TestEnvironment;
use uuid::Uuid;

/// Changes the document of a message.
pub(crate) async fn change(env: &TestEnvironment, id: MessageId, update: Document) -> Result<()> {
    let client = Client::with_uri_str(env.mongo_uri()).await?;
    let messages = client.database(env.database()).collection::<Document>("messages");
    let filter = doc! { "_id": bson::Uuid::from_bytes(Uuid::from(id).into_bytes()) };
    let updated = messages.update_one(filter, update).await?;
    ensure!(updated.modified_count == 1, "{updated:?}");
    Ok(())
}
