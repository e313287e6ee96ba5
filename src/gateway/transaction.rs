//! A transaction route: which calls one request becomes. Making them is not the gateway's business.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode};
use serde_json::value::RawValue;

use super::path::BadPath;
use super::pattern::Params;
use super::pointer::Pointer;
use super::problem::Problem;
use super::template::Template;

/// A route whose requests are done at every branch or at none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionRoute {
    /// The id of the route.
    pub id: String,
    /// The longest time to the decision; then abort. Default: 10 s.
    pub timeout: Duration,
    /// After the decision, how long the client's answer waits for confirmations; then it is a 202.
    /// Zero: it does not wait. Default: 5 s.
    pub reply_within: Duration,
    /// Who takes part, in declared order: 1 to [`TransactionRoute::BRANCHES_MAX`].
    pub branches: Vec<BranchRoute>,
}

/// One branch of a transaction route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchRoute {
    /// The service that takes part.
    pub service: String,
    /// The method of the work call. Default: `POST`.
    pub method: Method,
    /// The path of the work call.
    pub path: Template,
    /// Which part of the request's JSON the work call carries; `None`: the whole body as it came.
    pub body: Option<Pointer>,
}

/// One work call, ready to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedCall {
    /// The service that takes part.
    pub service: String,
    /// The method.
    pub method: Method,
    /// Path and query, in the form in which they are sent.
    pub path: String,
    /// The type of the body; `None`: the client gave none.
    pub content_type: Option<String>,
    /// The body.
    pub body: Bytes,
}

/// Why a request cannot become a transaction. The client has to change it; nothing was begun.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A branch wants a part of the body, and the body is no JSON.
    #[error("the body is not JSON: {0}")]
    MalformedJson(String),
    /// A branch wants a part that the body does not have.
    #[error("the body has nothing at `{pointer}`, which branch {branch} ({service}) needs")]
    MissingPointer {
        /// Where the branch looked.
        pointer: String,
        /// The number of the branch, from 0.
        branch: usize,
        /// Its service.
        service: String,
    },
    /// The path of a work call, with the request's parameters in it, would be unsafe.
    #[error("the path for branch {branch} cannot be made from this request: {reason}")]
    Path {
        /// The number of the branch, from 0.
        branch: usize,
        /// What is wrong with it.
        reason: BadPath,
    },
}

impl TransactionRoute {
    /// 64 branches fit one word of flags; nobody has asked for more.
    pub const BRANCHES_MAX: usize = 64;

    /// The services that take part, each once.
    #[must_use]
    pub fn services(&self) -> BTreeSet<&str> {
        self.branches.iter().map(|branch| branch.service.as_str()).collect()
    }

    /// The work calls that a request becomes, in declared order.
    ///
    /// `params` is what the route's path bound; `query`, `content_type` and `body` are the request's.
    pub fn plan(
        &self,
        params: &Params,
        query: Option<&str>,
        content_type: Option<&HeaderValue>,
        body: &Bytes,
    ) -> Result<Vec<PlannedCall>, PlanError> {
        let document = self.document(body)?;
        let content_type = content_type.and_then(|value| value.to_str().ok());
        let calls = self.branches.iter().enumerate().map(|(number, branch)| {
            let target =
                branch.path.fill(params).map_err(|reason| PlanError::Path { branch: number, reason })?;
            let part = branch.part(number, document.map(RawValue::get))?;
            Ok(PlannedCall {
                service: branch.service.clone(),
                method: branch.method.clone(),
                path: target.with_query(query),
                content_type: part.map_or(content_type, |_| Some("application/json")).map(str::to_owned),
                body: part.map_or_else(|| body.clone(), |part| body.slice_ref(part.as_bytes())),
            })
        });
        calls.collect()
    }

    /// The body as JSON, where some branch wants a part of it.
    fn document<'a>(&self, body: &'a Bytes) -> Result<Option<&'a RawValue>, PlanError> {
        if self.branches.iter().all(|branch| branch.body.is_none()) {
            return Ok(None);
        }
        let document = serde_json::from_slice(body);
        document.map(Some).map_err(|error| PlanError::MalformedJson(error.to_string()))
    }
}

impl BranchRoute {
    fn part<'a>(&self, branch: usize, document: Option<&'a str>) -> Result<Option<&'a str>, PlanError> {
        let Some((pointer, document)) = self.body.as_ref().zip(document) else { return Ok(None) };
        let missing = || PlanError::MissingPointer {
            pointer: pointer.to_string(),
            branch,
            service: self.service.clone(),
        };
        pointer.cut(document).ok_or_else(missing).map(Some)
    }
}

impl From<PlanError> for Problem {
    fn from(error: PlanError) -> Self {
        let problem = |code| Self::new(StatusCode::BAD_REQUEST, code, error.to_string());
        match &error {
            PlanError::MalformedJson(_) => problem("malformed_json"),
            PlanError::MissingPointer { pointer, branch, .. } => {
                problem("missing_pointer").with("pointer", pointer.as_str()).with("branch", *branch)
            }
            PlanError::Path { branch, .. } => problem("bad_path").with("branch", *branch),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::path::CleanPath;
    use crate::gateway::pattern::Pattern;

    fn route(branches: &[(&str, Option<&str>)]) -> TransactionRoute {
        let branch = |(path, body): &(&str, Option<&str>)| BranchRoute {
            service: "bank".to_owned(),
            method: Method::POST,
            path: Template::parse(path).unwrap(),
            body: body.map(|pointer| Pointer::parse(pointer).unwrap()),
        };
        TransactionRoute {
            id: "transfer".to_owned(),
            timeout: Duration::from_secs(10),
            reply_within: Duration::from_secs(5),
            branches: branches.iter().map(branch).collect(),
        }
    }

    fn plan(
        route: &TransactionRoute,
        query: Option<&str>,
        body: &str,
    ) -> Result<Vec<PlannedCall>, PlanError> {
        let params =
            Pattern::parse("/t/{id}").unwrap().matches(&CleanPath::parse("/t/a%2Fb").unwrap()).unwrap();
        let text = HeaderValue::from_static("text/x");
        route.plan(&params, query, Some(&text), &Bytes::copy_from_slice(body.as_bytes()))
    }

    #[test]
    fn a_branch_without_pointer_gets_the_body_as_it_came() {
        let calls = plan(&route(&[("/debit", None)]), None, "not json").unwrap();
        assert_eq!(
            (calls[0].body.as_ref(), calls[0].content_type.as_deref()),
            (&b"not json"[..], Some("text/x"))
        );
    }

    #[test]
    fn a_branch_with_pointer_gets_its_part_to_the_letter() {
        let calls =
            plan(&route(&[("/a", Some("/to")), ("/b", None)]), None, r#"{"to": {"sum": 1.10} }"#).unwrap();
        assert_eq!(calls[0].body, r#"{"sum": 1.10}"#);
        assert_eq!(calls[0].content_type.as_deref(), Some("application/json"));
        assert_eq!(calls[1].body, r#"{"to": {"sum": 1.10} }"#);
        assert_eq!(calls[1].content_type.as_deref(), Some("text/x"));
    }

    #[test]
    fn path_parameters_and_the_query_go_along() {
        let calls = plan(&route(&[("/x/{id}", None), ("/y?own={id}", None)]), Some("q=1"), "").unwrap();
        assert_eq!((calls[0].path.as_str(), calls[1].path.as_str()), ("/x/a%2Fb?q=1", "/y?own=a%2Fb"));
    }

    #[test]
    fn malformed_json_is_named_with_its_position() {
        for body in ["{\n \"to\": }", "{\"to\":1} x", "", "\u{feff}{}"] {
            let problem = Problem::from(plan(&route(&[("/a", Some("/to"))]), None, body).unwrap_err());
            assert_eq!((problem.status.as_u16(), problem.code), (400, "malformed_json"), "{body}");
            assert!(problem.detail.contains("line"), "{}", problem.detail);
        }
    }

    #[test]
    fn a_missing_part_is_named_with_pointer_and_branch() {
        let route = route(&[("/a", None), ("/b", Some("/to/account"))]);
        let problem = Problem::from(plan(&route, None, r#"{"to":{}}"#).unwrap_err());
        assert_eq!((problem.status.as_u16(), problem.code), (400, "missing_pointer"));
        assert_eq!(problem.detail, "the body has nothing at `/to/account`, which branch 1 (bank) needs");
    }
}
