//! Plans for tests.

use super::{Plan, PlannedBranch, Trace};
use crate::clock::Timestamp;

/// A transaction with a branch for each of these services, none of which is asked to prepare.
pub(crate) fn over(services: &[&str]) -> Plan {
    let branch = |service: &&str| PlannedBranch {
        service: (*service).to_owned(),
        method: "POST".to_owned(),
        work: "/work".to_owned(),
        prepare: None,
        commit: "/commit".to_owned(),
        abort: "/abort".to_owned(),
        body: None,
    };
    let (route, branches) = ("transfer".to_owned(), services.iter().map(branch).collect());
    Plan { route, deadline: Timestamp(0), branches, bodies: Vec::new(), key: None, trace: Trace::begin(1) }
}
