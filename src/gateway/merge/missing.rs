//! Why a part is missing, and what the client is told where it is one that has to be there.

use http::StatusCode;
use serde_json::{Value, json};

use super::parts::{MergeRoute, Part, StatusRule};
use super::tree::Clash;
use crate::budget::BufferError;
use crate::gateway::backend::Failure;
use crate::gateway::path::BadPath;
use crate::gateway::problem::Problem;

/// The answer of a part broke off.
pub(super) const BROKE_OFF: &str = "answer_broke_off";

/// Why a part is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Missing {
    /// The service gave no answer.
    Failed(Failure),
    /// It answered, but not with a 2xx.
    Refused(StatusCode),
    /// Its answer broke off, was over a limit, or cannot be merged.
    BadAnswer(&'static str),
    /// The gateway holds too much already.
    NoBudget,
    /// The request's parameters do not make a path.
    Path(BadPath),
    /// A part that it needs something from is missing.
    Dependency,
    /// The answer of an earlier part has no such value.
    NoValue(String),
    /// It has one that cannot stand where it is to go.
    BadValue(String),
}

impl<E> From<BufferError<E>> for Missing {
    fn from(error: BufferError<E>) -> Self {
        match error {
            BufferError::TooLong(_) => Self::BadAnswer("answer_too_large"),
            BufferError::NoBudget => Self::NoBudget,
            BufferError::Broken(_) => Self::BadAnswer(BROKE_OFF),
        }
    }
}

impl Missing {
    /// One entry of `errors`: which part, and why.
    pub(super) fn entry(&self, part: &Part) -> Value {
        let mut entry = json!({ "part": part.name, "service": part.service, "kind": self.kind() });
        let Some(members) = entry.as_object_mut() else { return entry };
        match self {
            Self::Refused(status) => {
                members.insert("status".to_owned(), json!(status.as_u16()));
            }
            Self::NoValue(value) | Self::BadValue(value) => {
                members.insert("value".to_owned(), json!(value));
            }
            Self::Failed(_) | Self::BadAnswer(_) | Self::NoBudget | Self::Path(_) | Self::Dependency => {}
        }
        entry
    }

    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Failed(Failure::Late) => "late",
            Self::Failed(
                Failure::Unreachable
                | Failure::Broken
                | Failure::BodyBroke
                | Failure::BodySlow
                | Failure::BodyTooLong,
            ) => "unreachable",
            Self::Refused(_) => "refused",
            Self::BadAnswer(kind) => kind,
            Self::NoBudget | Self::Failed(Failure::Crowded | Failure::BreakerOpen(_) | Failure::Full) => {
                "overloaded"
            }
            Self::Path(_) => "bad_path",
            Self::Dependency => "needs_missing_part",
            Self::NoValue(_) => "missing_value",
            Self::BadValue(_) => "bad_value",
        }
    }

    /// The status with which the service refused.
    pub(super) fn refused(&self) -> Option<StatusCode> {
        match self {
            Self::Refused(status) => Some(*status),
            Self::Failed(_)
            | Self::BadAnswer(_)
            | Self::NoBudget
            | Self::Path(_)
            | Self::Dependency
            | Self::NoValue(_)
            | Self::BadValue(_) => None,
        }
    }

    /// Whether it may be for what the client asked.
    pub(super) fn is_perhaps_the_clients(&self) -> bool {
        match self {
            Self::Refused(status) => !status.is_server_error(),
            Self::Path(_) | Self::Dependency | Self::NoValue(_) | Self::BadValue(_) => true,
            Self::Failed(_) | Self::BadAnswer(_) | Self::NoBudget => false,
        }
    }

    /// The status that stands for it where the status of parts counts.
    fn status(&self) -> StatusCode {
        match self {
            Self::Refused(status) if is_for_clients(*status) => *status,
            Self::Failed(Failure::Late) => StatusCode::GATEWAY_TIMEOUT,
            Self::NoBudget | Self::Failed(Failure::Crowded | Failure::BreakerOpen(_) | Failure::Full) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Path(_) => StatusCode::BAD_REQUEST,
            Self::Failed(_)
            | Self::Refused(_)
            | Self::BadAnswer(_)
            | Self::Dependency
            | Self::NoValue(_)
            | Self::BadValue(_) => StatusCode::BAD_GATEWAY,
        }
    }
}

/// Whether the status of a service's refusal can be that of an answer without its fields. A redirection is nothing without
/// `Location`, and 407 is between the gateway and a proxy.
fn is_for_clients(status: StatusCode) -> bool {
    (status.is_client_error() || status.is_server_error())
        && status != StatusCode::PROXY_AUTHENTICATION_REQUIRED
}

/// The status of an answer in which no required part is missing.
pub(super) fn status(rule: StatusRule, parts: &[Result<StatusCode, Missing>]) -> StatusCode {
    let of = |part: &Result<StatusCode, Missing>| match part {
        // 204 and 205 have no body, and 206 one that is cut; ours is whole.
        Ok(StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::PARTIAL_CONTENT) => {
            StatusCode::OK
        }
        Ok(status) => *status,
        Err(missing) => missing.status(),
    };
    match rule {
        StatusRule::Ok => StatusCode::OK,
        StatusRule::Fixed(status) => status,
        // What only waited for another says nothing of its own.
        StatusRule::Worst => {
            let told = parts.iter().filter(|part| **part != Err(Missing::Dependency));
            told.map(of).max().unwrap_or(StatusCode::OK)
        }
        StatusRule::First => parts.first().map_or(StatusCode::OK, of),
    }
}

/// The answer where required parts are missing. The client's own mistake comes first, then our own
/// shortage, then what the parts say where the route goes by that, then the services.
pub(super) fn problem(route: &MergeRoute, parts: &[Result<StatusCode, Missing>]) -> Problem {
    let all = route.parts.iter().zip(parts).filter(|(part, _)| part.required);
    let required: Vec<_> = all.filter_map(|(part, came)| Some((part, came.as_ref().err()?))).collect();
    // What only waited for another says nothing of its own.
    let causes =
        || required.iter().map(|(_, missing)| *missing).filter(|missing| **missing != Missing::Dependency);
    let bad_path = required.iter().find_map(|(_, missing)| {
        let Missing::Path(reason) = missing else { return None };
        Some(*reason)
    });
    let by_rule = match route.status {
        StatusRule::Worst | StatusRule::First => {
            Some(status(route.status, parts)).filter(|status| !status.is_success())
        }
        StatusRule::Ok | StatusRule::Fixed(_) => None,
    };
    let problem = if let Some(reason) = bad_path {
        Problem::from(reason)
    } else if required.iter().any(|(_, missing)| missing.kind() == "overloaded") {
        overloaded()
    } else if causes().next().is_some() && causes().all(|missing| missing.kind() == "late") {
        Problem::new(StatusCode::GATEWAY_TIMEOUT, "part_late", "a required part did not come in time")
    } else {
        let status = by_rule.unwrap_or(StatusCode::BAD_GATEWAY);
        Problem::new(status, "part_failed", "a required part could not be had")
    };
    let errors: Vec<_> = required.iter().map(|(part, missing)| missing.entry(part)).collect();
    problem.with("errors", errors)
}

/// 502: with this part there are more values to look at than one answer is worth.
pub(super) fn too_many(part: &Part) -> Problem {
    let detail = "the parts have too many members and items to be put together";
    let entry = Missing::BadAnswer("too_many_values").entry(part);
    Problem::new(StatusCode::BAD_GATEWAY, "part_failed", detail).with("errors", vec![entry])
}

/// 503: there is no room for the bytes of the answer.
pub(super) fn overloaded() -> Problem {
    Problem::overloaded(
        "too many bytes of answers are held already, or too many clients wait for a service; try again soon",
    )
}

/// 502: two parts gave one member.
pub(super) fn conflict(route: &MergeRoute, clash: &Clash) -> Problem {
    let name = |place: usize| route.parts.get(place).map_or("the gateway", |part| part.name.as_str());
    let mut parts = vec![name(clash.first)];
    if clash.first != clash.second {
        parts.push(name(clash.second));
    }
    let detail = format!("the member {} comes twice, from {}", clash.member, parts.join(" and "));
    let problem = Problem::new(StatusCode::BAD_GATEWAY, "merge_conflict", detail);
    problem.with("member", clash.member.as_str()).with("parts", parts)
}
