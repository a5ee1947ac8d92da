//! Query parameters: of lists, and of the few others that have any. What each route takes is `api::v3::lists`; whatever
//! is not there is refused before a handler sees it.

use crate::context::Context;
use crate::error::{Answer, Failure};
use api::error::Code;
use api::v3::lists::{OF_LISTS, ORDERS, Rules};
use api::v3::{DEFAULT_PER_PAGE, Link, List, MAX_PER_PAGE, Pagination};
use axum::extract::{FromRequestParts, MatchedPath};
use http::request::Parts;
use model::Timestamp;
use model::labels::Selector;
use model::resource::Metadata;
use serde::de::DeserializeOwned;
use std::str::FromStr;
use store::{Common, Moment, NamedFilter, Order, OrderBy, Page, Paged};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Query parameters that the route takes, checked.
pub struct Query {
    path: String,
    pairs: Vec<(String, String)>,
    rules: Option<&'static Rules>,
}

/// What short lists, which are not narrowed by the store, are narrowed and ordered by here.
pub struct Facts<'a> {
    pub name: &'a str,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// `None` where it carries no labels.
    pub metadata: Option<&'a Metadata>,
}

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let matched = parts.extensions.get::<MatchedPath>();
        let rules = matched.and_then(|path| Rules::of(parts.method.as_str(), path.as_str()));
        let query = parts.uri.query().unwrap_or_default();
        let query = Self {
            path: parts.uri.path().to_owned(),
            pairs: url::form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
            rules,
        };
        if let Some(rules) = rules {
            query.check(rules)?;
        }
        Ok(query)
    }
}

fn quoted<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ")
}

impl Query {
    /// Refuses what the route does not know, as CF does, and pages, orders and times that are none: also where a list is
    /// so short that it does not look at them.
    fn check(&self, rules: &Rules) -> Answer<()> {
        let mut known: Vec<&str> = rules.filters.to_vec();
        if rules.list {
            known.extend(OF_LISTS);
        }
        let parts = [
            ("include", rules.include.is_empty()),
            ("fields", rules.fields.is_empty()),
            ("embed", rules.embed.is_empty()),
        ];
        known.extend(parts.iter().filter(|(_, none)| !none).map(|(name, _)| *name));
        for (name, _) in &self.pairs {
            let plain = name.split('[').next().unwrap_or_default();
            if !known.contains(&plain) {
                let valid = quoted(known.iter().copied());
                return Err(bad(format!(
                    "Unknown query parameter(s): '{name}'. Valid parameters are: {valid}"
                )));
            }
        }
        self.values_of("include", "included", rules.include)?;
        self.values_of("embed", "embedded", rules.embed)?;
        self.fields_of(rules.fields)?;
        if rules.list {
            self.page()?;
            self.common()?;
            self.order()?;
        }
        Ok(())
    }

    fn values_of(&self, name: &str, verb: &str, valid: &[&str]) -> Answer<()> {
        for one in self.wanted(name) {
            if !valid.contains(&one) {
                let valid = quoted(valid.iter().copied());
                return Err(bad(format!(
                    "Invalid {verb} resource: '{one}'. Valid {verb} resources are: {valid}"
                )));
            }
        }
        Ok(())
    }

    /// `fields[resource]=field,field`.
    fn fields_of(&self, valid: &[(&str, &[&str])]) -> Answer<()> {
        for (key, value) in self.pairs.iter().filter(|(key, _)| key.starts_with("fields")) {
            let resource = key.strip_prefix("fields[").and_then(|rest| rest.strip_suffix(']'));
            let known = valid.iter().find(|(name, _)| Some(*name) == resource);
            let Some((resource, fields)) = known else {
                let valid = quoted(valid.iter().map(|(name, _)| *name));
                let resource = resource.unwrap_or_default();
                return Err(bad(format!("Fields [{resource}] valid resources are: {valid}")));
            };
            if let Some(field) = value.split(',').find(|field| !fields.contains(field)) {
                let valid = quoted(fields.iter().copied());
                return Err(bad(format!(
                    "Fields '{field}' of '{resource}': valid keys are: {valid}"
                )));
            }
        }
        Ok(())
    }

    /// The words of a parameter that is a list of them; none where it is not there.
    pub fn wanted<'q>(&'q self, name: &'q str) -> impl Iterator<Item = &'q str> {
        let values = self.pairs.iter().filter(move |(key, _)| key == name);
        values.flat_map(|(_, value)| value.split(','))
    }

    /// What narrows every list: labels, and times of creation and change.
    pub fn common(&self) -> Answer<Common> {
        let labels = match self.get("label_selector") {
            None => Selector::default(),
            Some(text) => {
                Selector::parse(text).map_err(|problem| bad(format!("Invalid label_selector value: {problem}")))?
            }
        };
        Ok(Common {
            labels,
            created: self.moments("created_ats")?,
            updated: self.moments("updated_ats")?,
        })
    }

    /// Bounds on a time: `name=a,b`, `name[lt]=a` and the like.
    fn moments(&self, name: &str) -> Answer<Vec<Moment>> {
        let mut moments = Vec::new();
        for (key, value) in &self.pairs {
            let Some(sign) = key.strip_prefix(name) else { continue };
            let at = |text: &str| {
                OffsetDateTime::parse(text, &Rfc3339)
                    .map_err(|_| bad(format!("{name} has an invalid timestamp format: {text:?}")))
            };
            moments.push(match sign {
                "" => Moment::In(value.split(',').map(at).collect::<Answer<_>>()?),
                "[lt]" => Moment::Before(at(value)?),
                "[lte]" => Moment::NotAfter(at(value)?),
                "[gt]" => Moment::After(at(value)?),
                "[gte]" => Moment::NotBefore(at(value)?),
                _ => return Err(bad(format!("Invalid relational operator: {sign:?}"))),
            });
        }
        Ok(moments)
    }

    /// The value of a parameter.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// A filter by texts, separated by commas.
    #[must_use]
    pub fn texts(&self, name: &str) -> Option<Vec<String>> {
        Some(self.get(name)?.split(',').map(ToOwned::to_owned).collect())
    }

    /// A filter by ids. What is no id matches nothing.
    #[must_use]
    pub fn ids<T: FromStr>(&self, name: &str) -> Option<Vec<T>> {
        Some(
            self.get(name)?
                .split(',')
                .filter_map(|text| text.parse().ok())
                .collect(),
        )
    }

    /// A filter by ids where one of `others` matches nothing that is here: no id does then.
    #[must_use]
    pub fn ids_unless<T: FromStr>(&self, name: &str, others: &[&str]) -> Option<Vec<T>> {
        if others.iter().any(|other| self.get(other).is_some()) {
            return Some(Vec::new());
        }
        self.ids(name)
    }

    /// What narrows the lists that have names and are of organisations.
    pub fn named<I: FromStr>(&self) -> Answer<NamedFilter<I>> {
        Ok(NamedFilter {
            common: self.common()?,
            ids: self.ids("guids"),
            names: self.texts("names"),
            orgs: self.ids("organization_guids"),
        })
    }

    /// A filter by values of an enumeration.
    pub fn words<T: DeserializeOwned>(&self, name: &str) -> Answer<Option<Vec<T>>> {
        let Some(text) = self.get(name) else { return Ok(None) };
        text.split(',')
            .map(|word| {
                serde_json::from_value(serde_json::Value::String(word.to_owned()))
                    .map_err(|_| bad(format!("{word:?} is no value of {name}")))
            })
            .collect::<Answer<_>>()
            .map(Some)
    }

    /// Which page is asked for.
    pub fn page(&self) -> Answer<Page> {
        let number = |name: &str, default: u32, most: u32| match self.get(name) {
            None => Ok(default),
            Some(text) => text
                .parse::<u32>()
                .ok()
                .filter(|number| (1..=most).contains(number))
                .ok_or_else(|| bad(format!("{name} must be between 1 and {most}"))),
        };
        Ok(Page {
            number: number("page", 1, 1_000_000)?,
            per_page: number("per_page", DEFAULT_PER_PAGE, MAX_PER_PAGE)?,
        })
    }

    /// The order that is asked for. An order that the store does not know, such as by position, is left to the handler:
    /// by creation.
    pub fn order(&self) -> Answer<Order> {
        let Some(text) = self.get("order_by") else {
            return Ok(Order::default());
        };
        let (descending, name) = match text.strip_prefix('-') {
            Some(name) => (true, name),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let more = self.rules.map_or(&[][..], |rules| rules.orders);
        let mut valid = ORDERS.iter().chain(more);
        if !valid.any(|order| *order == name) {
            let valid = quoted(ORDERS.iter().chain(more).copied());
            return Err(bad(format!("Order by can only be: {valid}")));
        }
        let by = match name {
            "updated_at" => OrderBy::UpdatedAt,
            "name" => OrderBy::Name,
            _ => OrderBy::CreatedAt,
        };
        Ok(Order { by, descending })
    }

    /// A page of a list that is short and at hand whole, narrowed and ordered by its `facts`; as it is where no order is
    /// asked for.
    pub fn few<T, R>(
        &self,
        context: &Context,
        mut items: Vec<T>,
        facts: impl Fn(&T) -> Facts<'_>,
        present: impl FnMut(T) -> R,
    ) -> Answer<List<R>> {
        let (common, page, order) = (self.common()?, self.page()?, self.order()?);
        let within = |bounds: &[Moment], at: Timestamp| bounds.iter().all(|bound| bound.holds(at));
        items.retain(|item| {
            let facts = facts(item);
            let labelled = match facts.metadata {
                Some(metadata) => common.labels.matches(&metadata.labels),
                None => common.labels.is_empty(),
            };
            labelled && within(&common.created, facts.created_at) && within(&common.updated, facts.updated_at)
        });
        match self.get("order_by").map(|by| by.trim_start_matches(['-', '+'])) {
            Some("name") => items.sort_by(|a, b| facts(a).name.cmp(facts(b).name)),
            Some("created_at") => items.sort_by_key(|item| facts(item).created_at),
            Some("updated_at") => items.sort_by_key(|item| facts(item).updated_at),
            _ => {}
        }
        if order.descending {
            items.reverse();
        }
        let total = items.len() as u64;
        let before = (page.number as usize - 1).saturating_mul(page.per_page as usize);
        let items = items.into_iter().skip(before).take(page.per_page as usize).collect();
        self.list(context, Paged { items, total }, present)
    }

    /// A page as it travels, with links to its neighbours.
    pub fn list<T, R>(&self, context: &Context, paged: Paged<T>, present: impl FnMut(T) -> R) -> Answer<List<R>> {
        let page = self.page()?;
        let pages = paged.total.div_ceil(u64::from(page.per_page)).max(1);
        let number = u64::from(page.number);
        let link = |number: u64| Some(self.link(context, number, page.per_page));
        Ok(List {
            pagination: Pagination {
                total_results: paged.total,
                total_pages: pages,
                first: link(1),
                last: link(pages),
                next: if number < pages { link(number + 1) } else { None },
                previous: if number > 1 { link(number - 1) } else { None },
            },
            resources: paged.items.into_iter().map(present).collect(),
            included: None,
        })
    }

    fn link(&self, context: &Context, number: u64, per_page: u32) -> Link {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in self
            .pairs
            .iter()
            .filter(|(name, _)| name != "page" && name != "per_page")
        {
            query.append_pair(name, value);
        }
        query.append_pair("page", &number.to_string());
        query.append_pair("per_page", &per_page.to_string());
        Link {
            href: format!("{}{}?{}", context.config.public_url, self.path, query.finish()),
            method: None,
        }
    }
}

fn bad(detail: impl std::fmt::Display) -> Failure {
    Failure::new(
        Code::BadQueryParameter,
        format!("The query parameter is invalid: {detail}"),
    )
}
