//! Keys that sign tokens.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test whose keys cannot be made can only fail"
)]

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    error::KeyRejected,
    hmac,
    rand::SystemRandom,
    rsa::PublicKeyComponents,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
        RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
    },
};
use serde_json::{Value, json};

/// Keys for tests, and no secrets: everybody can read them here. Making one takes seconds.
const RSA_KEYS: [&[u8]; 2] = [
    include_bytes!("../../fixtures/public_test_rsa_key_1.der"),
    include_bytes!("../../fixtures/public_test_rsa_key_2.der"),
];

const ES256: &EcdsaSigningAlgorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;

/// A key, and the algorithm that it signs with.
pub struct TestKey {
    algorithm: &'static str,
    id: Option<String>,
    signer: Signer,
}

enum Signer {
    Rsa(Box<RsaKeyPair>, &'static dyn RsaEncoding),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Hmac(hmac::Key),
}

impl TestKey {
    /// Algorithms for which an issuer publishes keys.
    pub const PUBLIC_KEY_ALGORITHMS: [&str; 4] = ["RS256", "PS256", "ES256", "EdDSA"];

    /// Makes a new key without an id for one of [`Self::PUBLIC_KEY_ALGORITHMS`]. With RSA it is always the same one.
    #[must_use]
    pub fn new(algorithm: &str) -> Self {
        Self::made(algorithm, RSA_KEYS[0])
    }

    /// Makes a key that is none of those that [`Self::new`] makes.
    #[must_use]
    pub fn another(algorithm: &str) -> Self {
        Self::made(algorithm, RSA_KEYS[1])
    }

    fn made(algorithm: &str, rsa: &[u8]) -> Self {
        let random = SystemRandom::new();
        let rsa = || Box::new(RsaKeyPair::from_der(rsa).expect("a valid key"));
        let (algorithm, signer) = match algorithm {
            "RS256" => ("RS256", Signer::Rsa(rsa(), &RSA_PKCS1_SHA256)),
            "PS256" => ("PS256", Signer::Rsa(rsa(), &RSA_PSS_SHA256)),
            "ES256" => return Self::of_es256(&Self::es256()).expect("a valid key"),
            "EdDSA" => {
                let made = Ed25519KeyPair::generate_pkcs8(&random).expect("random bytes");
                let pair = Ed25519KeyPair::from_pkcs8(made.as_ref());
                ("EdDSA", Signer::Ed25519(pair.expect("a valid key")))
            }
            other => panic!("no test has a key for {other}"),
        };
        Self { algorithm, id: None, signer }
    }

    /// Makes a key for ES256, to be kept: in PKCS #8, not encrypted.
    ///
    /// # Panics
    ///
    /// Panics if the system has no random bytes.
    #[must_use]
    pub fn es256() -> Vec<u8> {
        let made = EcdsaKeyPair::generate_pkcs8(ES256, &SystemRandom::new());
        made.expect("random bytes").as_ref().to_vec()
    }

    /// Reads a key that [`Self::es256`] has made.
    pub fn of_es256(pkcs8: &[u8]) -> Result<Self, KeyRejected> {
        let pair = EcdsaKeyPair::from_pkcs8(ES256, pkcs8, &SystemRandom::new())?;
        Ok(Self { algorithm: "ES256", id: None, signer: Signer::Ecdsa(pair) })
    }

    /// Makes a key for HS256 out of a secret.
    #[must_use]
    pub fn of_secret(secret: &[u8]) -> Self {
        let signer = Signer::Hmac(hmac::Key::new(hmac::HMAC_SHA256, secret));
        Self { algorithm: "HS256", id: None, signer }
    }

    /// Gives the key an id (`kid`).
    #[must_use]
    pub fn with_id(self, id: &str) -> Self {
        Self { id: Some(id.to_owned()), ..self }
    }

    /// Returns the public key (RFC 7517), with its id and its algorithm.
    ///
    /// # Panics
    ///
    /// For a secret, which has none.
    #[must_use]
    pub fn jwk(&self) -> Value {
        let mut jwk = match &self.signer {
            Signer::Rsa(pair, _) => {
                let public: PublicKeyComponents<Vec<u8>> = pair.public().into();
                json!({ "kty": "RSA", "n": base64url(public.n), "e": base64url(public.e) })
            }
            Signer::Ecdsa(pair) => {
                // A byte that says that the coordinates follow.
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                json!({ "kty": "EC", "crv": "P-256", "x": base64url(x), "y": base64url(y) })
            }
            Signer::Ed25519(pair) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": base64url(pair.public_key()) })
            }
            Signer::Hmac(_) => panic!("a secret is not published"),
        };
        jwk["alg"] = self.algorithm.into();
        if let Some(id) = &self.id {
            jwk["kid"] = id.as_str().into();
        }
        jwk
    }

    /// Returns the header of a token that is signed with this key.
    #[must_use]
    pub fn header(&self) -> Value {
        let mut header = json!({ "typ": "JWT", "alg": self.algorithm });
        if let Some(id) = &self.id {
            header["kid"] = id.as_str().into();
        }
        header
    }

    /// Signs a token with these claims.
    #[must_use]
    pub fn sign(&self, claims: &Value) -> String {
        self.sign_with(&self.header(), &claims.to_string())
    }

    /// Signs a token with any header and any payload, valid or not.
    #[must_use]
    pub fn sign_with(&self, header: &Value, payload: &str) -> String {
        let message = format!("{}.{}", base64url(header.to_string()), base64url(payload));
        let signature = base64url(self.signature(message.as_bytes()));
        format!("{message}.{signature}")
    }

    fn signature(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.signer {
            Signer::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(*encoding, &random, message, &mut signature).expect("a valid key");
                signature
            }
            Signer::Ecdsa(pair) => {
                pair.sign(&random, message).expect("random bytes").as_ref().to_vec()
            }
            Signer::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Signer::Hmac(key) => hmac::sign(key, message).as_ref().to_vec(),
        }
    }
}

fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
