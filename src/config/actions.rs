//! What becomes of a route's requests: `forward`, `merge`, `transaction`, `redirect` or `respond`.

use std::time::Duration;

use http::Method;
use toml::Spanned;

use super::balancing;
use super::file::{BranchFile, ForwardFile, RouteFile, Text, TransactionRouteFile};
use super::findings::Noted;
use super::resolve::{RATE_OR_NONE, WAIT, WAIT_OR_NONE};
use super::routes::Reader;
use crate::gateway::{Action, BranchRoute, ForwardRoute, Pointer, Template, TransactionRoute};

const FORWARD_TIMEOUT: Duration = Duration::from_secs(30);
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);
const REPLY_WITHIN: Duration = Duration::from_secs(5);

impl Reader<'_, '_, '_> {
    pub(super) fn action(&mut self, file: &RouteFile) -> Result<Action, Noted> {
        let forward = file
            .forward
            .as_ref()
            .map(|given| self.forward(given, file).map(|route| Action::Forward(route.into())));
        let merge = file.merge.as_ref().map(|given| self.merge(given).map(Action::Merge));
        let transaction =
            file.transaction.as_ref().map(|given| self.transaction(given).map(Action::Transaction));
        let redirect = file.redirect.as_ref().map(|given| self.redirect(given, file).map(Action::Redirect));
        let respond = file.respond.as_ref().map(|given| self.respond(given).map(Action::Respond));
        let mut given = [forward, merge, transaction, redirect, respond].into_iter().flatten();
        let id = self.id;
        let blame = match (given.next(), given.next()) {
            (Some(action), None) => return action,
            (Some(_), Some(_)) => "says twice what becomes of its requests; keep one",
            (None, _) => "does not say what becomes of its requests; add one",
        };
        let message = format!(
            "the route `{id}` {blame} of `forward`, `merge`, `transaction`, `redirect` and `respond`"
        );
        self.refuse(&file.id, message)
    }

    fn forward(&mut self, file: &ForwardFile, route: &RouteFile) -> Result<ForwardRoute, Noted> {
        let to = self.split(file, &route.id);
        let path = file.path.as_ref().map(|path| self.template(path)).transpose();
        let rewrite = self.rewrite(file);
        let timeout = self.findings.time(file.timeout.as_ref(), FORWARD_TIMEOUT, WAIT);
        let of = self.retryable(file);
        let try_timeout = balancing::try_timeout(file, timeout, of, self.findings);
        let retry = balancing::retry(file, &route.matches, of, self.findings);
        let body_rate_min = file
            .body_rate_min
            .as_ref()
            .map(|given| self.findings.number(Some(given), usize::default(), RATE_OR_NONE));
        let (to, path, rewrite) = (to?, path?, rewrite?);
        Ok(ForwardRoute { to, path, rewrite, timeout, try_timeout, body_rate_min, retry })
    }

    fn transaction(&mut self, file: &TransactionRouteFile) -> Result<TransactionRoute, Noted> {
        self.check_count("branches", &file.branches, TransactionRoute::BRANCHES_MAX);
        let timeout = self.findings.time(file.timeout.as_ref(), TRANSACTION_TIMEOUT, WAIT);
        let reply_within = self.findings.time(file.reply_within.as_ref(), REPLY_WITHIN, WAIT_OR_NONE);
        let branches: Vec<_> = file.branches.get_ref().iter().map(|branch| self.branch(branch)).collect();
        let branches = branches.into_iter().collect::<Result<_, _>>()?;
        Ok(TransactionRoute { id: self.id.to_owned(), timeout, reply_within, branches })
    }

    fn branch(&mut self, file: &BranchFile) -> Result<BranchRoute, Noted> {
        let service = self.known.participant(&file.service, self.findings);
        let method = file.method.as_ref().map_or(Ok(Method::POST), |method| self.method(method));
        let path = self.template(&file.path);
        let body = file.body.as_ref().map(|body| self.pointer(body)).transpose();
        Ok(BranchRoute { service: service?, method: method?, path: path?, body: body? })
    }

    pub(super) fn pointer(&mut self, text: &Text) -> Result<Pointer, Noted> {
        self.findings.keep(&text.span(), "bad JSON Pointer", Pointer::parse(text.get_ref()))
    }

    /// A path to call, all of whose parameters the route's own path binds.
    fn template(&mut self, text: &Text) -> Result<Template, Noted> {
        let template = self.findings.keep(&text.span(), "bad path", Template::parse(text.get_ref()))?;
        self.check_bound(text, template.params())?;
        Ok(template)
    }

    /// All of `names` are parameters that the route's own path binds.
    pub(super) fn check_bound<'n, T>(
        &mut self,
        at: &Spanned<T>,
        names: impl Iterator<Item = &'n str>,
    ) -> Result<(), Noted> {
        let pattern = self.pattern.ok_or(Noted)?;
        let is_unbound = |name: &&str| !pattern.params().any(|known| known == *name);
        let mut names = names;
        let Some(name) = names.find(is_unbound) else { return Ok(()) };
        let bound: Vec<_> = pattern.params().map(|name| format!("`{{{name}}}`")).collect();
        let bound =
            if bound.is_empty() { "no parameter".to_owned() } else { format!("only {}", bound.join(", ")) };
        let message = format!(
            "`{{{name}}}` comes from nowhere: the path `{pattern}` of the route binds {bound}; add it there \
             or take it out here"
        );
        self.refuse(at, message)
    }

    pub(super) fn check_count<T>(&mut self, what: &str, list: &Spanned<Vec<T>>, max: usize) {
        let count = list.get_ref().len();
        if count == 0 || count > max {
            let message = format!("the route `{}` has {count} {what}; write 1 to {max}", self.id);
            self.findings.add(&list.span(), message);
        }
    }
}
