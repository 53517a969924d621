//! The ledger held against what is stored: behind every crash, once all has come to its end.

use super::machine::Machine;
use super::quarantine;

impl Machine {
    /// Every row, and every event in quarantine, is one that the ledger has, and there is no other.
    pub(super) fn check_ledger(&mut self) {
        // What rotted is missing, and it was told.
        if self.may_be_damaged {
            return;
        }
        let found = self.found();
        let aside = quarantine::found(&self.faulty);
        let (total, difference) = self.life().engine.shared.ledger.look();
        assert_eq!(difference, 0, "the ledger raises an alarm");
        let (received, set_aside) = (total.received(), total.aside());
        let counted = (received.accepted, received.rejected);
        let stored = (found.ids.len() as u64, found.rejected.len() as u64);
        assert_eq!(counted, stored, "accepted and rejected by ledger and table");
        let counted = (set_aside.accepted, set_aside.rejected);
        let stored = (aside.ids.len() as u64, aside.rejected.len() as u64);
        assert_eq!(counted, stored, "the same of what is in quarantine");
    }
}
