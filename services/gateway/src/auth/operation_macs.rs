//! Message authentication codes in the ids of operations, by which a gateway knows who has requested one. A pending
//! operation has no record that could name its caller.

use auth::{Caller, Secret, rules::Relation};
use contracts::OperationId;
use ring::hmac::{self, HMAC_SHA256, Key};
use subtle::ConstantTimeEq;
use uuid::Uuid;

/// Makes and checks the codes. All gateways have the same secret, so that each knows those of the others.
pub(crate) struct OperationMacs(Key);

impl OperationMacs {
    pub(crate) fn new(secret: &Secret) -> Self {
        Self(Key::new(HMAC_SHA256, secret.bytes()))
    }

    /// Returns the id with the code of this caller; without one where nobody is checked.
    pub(crate) fn sign(&self, id: OperationId, caller: &Caller) -> OperationId {
        OperationId { mac: self.mac(id, caller), ..id }
    }

    /// Returns the relation of a caller to an operation: sender of what it has requested, else stranger.
    pub(crate) fn relation(&self, id: OperationId, caller: &Caller) -> Relation {
        match (id.mac, self.mac(id, caller)) {
            (Some(mac), Some(expected)) if bool::from(mac.ct_eq(&expected)) => Relation::Sender,
            _ => Relation::Stranger,
        }
    }

    fn mac(&self, id: OperationId, caller: &Caller) -> Option<[u8; OperationId::MAC_BYTES]> {
        let subject = caller.subject()?;
        let mut context = hmac::Context::with_key(&self.0);
        context.update(b"operation");
        context.update(Uuid::from(id.command_id).as_bytes());
        context.update(Uuid::from(id.message_id).as_bytes());
        // A service may have the name of a user.
        context.update(&[u8::from(caller.user().is_some())]);
        context.update(subject.as_bytes());
        context.sign().as_ref().first_chunk().copied()
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, sync::Arc};

    use auth::{Principal, Scopes};
    use contracts::{CommandId, MessageId};

    use super::*;

    fn macs(secret: &[u8]) -> OperationMacs {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(secret).unwrap();
        OperationMacs::new(&Secret::read(file.path()).unwrap())
    }

    fn caller(subject: &str, is_user: bool) -> Caller {
        let user = is_user.then(|| subject.to_owned().try_into().unwrap());
        let subject = subject.to_owned();
        Caller::Verified(Arc::new(Principal { subject, user, scopes: Scopes::default() }))
    }

    #[test]
    fn an_operation_is_known_to_its_requester_only() {
        let (macs, other_secret) = (macs(&[b'a'; 32]), macs(&[b'b'; 32]));
        let id = OperationId::new(CommandId::generate(), MessageId::generate());
        let signed = macs.sign(id, &caller("alice", true));
        assert_eq!(macs.relation(signed, &caller("alice", true)), Relation::Sender);
        for other in [caller("bob", true), caller("alice", false), Caller::Unchecked] {
            assert_eq!(macs.relation(signed, &other), Relation::Stranger, "{other:?}");
        }
        let other_ids = [
            id,
            OperationId { command_id: CommandId::generate(), ..signed },
            OperationId { message_id: MessageId::generate(), ..signed },
        ];
        for other in other_ids {
            assert_eq!(macs.relation(other, &caller("alice", true)), Relation::Stranger);
        }
        assert_eq!(other_secret.relation(signed, &caller("alice", true)), Relation::Stranger);
        let mut guessed = signed;
        guessed.mac.as_mut().unwrap()[15] ^= 1;
        assert_eq!(macs.relation(guessed, &caller("alice", true)), Relation::Stranger);
        assert_eq!(macs.sign(id, &Caller::Unchecked).mac, None);
    }
}
