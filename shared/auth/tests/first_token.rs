//! The first genuine token in a fresh process: this test has one of its own.

mod common;

use common::authenticator;
use testkit::TestIssuer;

#[tokio::test]
async fn the_first_genuine_token_of_a_process_is_verified() {
    let issuer = TestIssuer::start().await.unwrap();
    let authenticator = authenticator(&issuer, &[]).await;
    assert!(authenticator.verify(&issuer.token("alice")).await.is_ok());
}
