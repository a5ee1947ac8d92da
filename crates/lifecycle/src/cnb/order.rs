//! Which groups of buildpacks are tried, with composite buildpacks replaced by what they name.

use super::descriptor::Buildpack;
use crate::Error;

/// Most groups that an expansion may have; composites multiply.
const GROUPS: usize = 1000;
/// Most levels of composites within composites.
const DEPTH: usize = 10;

/// A buildpack in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    /// Index among the loaded buildpacks.
    pub buildpack: usize,
    /// Whether the group also works without it.
    pub optional: bool,
}

/// The groups to try, in order, of those at `roots`; the others are there to be named. With `alternatives` each is a group
/// of its own, else all are one group.
///
/// # Errors
/// [`Error::Buildpack`] where a composite names a buildpack that is not there, names itself, or grows beyond all bounds.
pub fn groups(buildpacks: &[Buildpack], roots: &[usize], alternatives: bool) -> Result<Vec<Vec<Member>>, Error> {
    let single = |buildpack| Member {
        buildpack,
        optional: false,
    };
    let all = roots.iter().copied();
    if alternatives {
        let mut groups = Vec::new();
        for index in all {
            groups.extend(expand(buildpacks, &[single(index)], 0)?);
        }
        return Ok(groups);
    }
    expand(buildpacks, &all.map(single).collect::<Vec<_>>(), 0)
}

/// Replaces the leftmost composite by each of its groups, depth first, until none is left.
fn expand(buildpacks: &[Buildpack], group: &[Member], depth: usize) -> Result<Vec<Vec<Member>>, Error> {
    let Some(at) = group
        .iter()
        .position(|member| buildpacks[member.buildpack].is_composite())
    else {
        return Ok(vec![group.to_vec()]);
    };
    let composite = &buildpacks[group[at].buildpack];
    let too_much = || Error::Buildpack {
        buildpack: composite.name.clone(),
        reason: "its order expands without end".to_owned(),
    };
    if depth > DEPTH {
        return Err(too_much());
    }
    let mut groups = Vec::new();
    for order in &composite.descriptor.order {
        let mut expanded = group[..at].to_vec();
        for reference in &order.group {
            let matches = |buildpack: &Buildpack| {
                buildpack.id() == reference.id
                    && reference
                        .version
                        .as_ref()
                        .is_none_or(|version| *version == buildpack.descriptor.buildpack.version)
            };
            let buildpack = buildpacks.iter().position(matches).ok_or_else(|| Error::Buildpack {
                buildpack: composite.name.clone(),
                reason: format!("its order names {}, which is not available", reference.id),
            })?;
            expanded.push(Member {
                buildpack,
                optional: reference.optional,
            });
        }
        expanded.extend_from_slice(&group[at + 1..]);
        groups.extend(expand(buildpacks, &expanded, depth + 1)?);
        if groups.len() > GROUPS {
            return Err(too_much());
        }
    }
    if group[at].optional {
        let without = [&group[..at], &group[at + 1..]].concat();
        if !without.is_empty() {
            groups.extend(expand(buildpacks, &without, depth + 1)?);
        }
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buildpack(toml: &str) -> Buildpack {
        Buildpack {
            name: "x".to_owned(),
            dir: "/".into(),
            api: 10,
            descriptor: toml::from_str(&format!("api = '0.10'\n{toml}")).unwrap(),
        }
    }

    fn component(id: &str) -> Buildpack {
        buildpack(&format!("buildpack = {{ id = '{id}', version = '1.0.0' }}"))
    }

    fn names(buildpacks: &[Buildpack], alternatives: bool) -> Vec<String> {
        groups(buildpacks, &(0..buildpacks.len()).collect::<Vec<_>>(), alternatives)
            .unwrap()
            .iter()
            .map(|group| {
                let ids: Vec<_> = group
                    .iter()
                    .map(|member| {
                        format!(
                            "{}{}",
                            buildpacks[member.buildpack].id(),
                            if member.optional { "?" } else { "" }
                        )
                    })
                    .collect();
                ids.join(" ")
            })
            .collect()
    }

    #[test]
    fn chosen_buildpacks_are_one_group_and_candidates_one_each() {
        let buildpacks = [component("a"), component("b")];
        assert_eq!(names(&buildpacks, false), ["a b"]);
        assert_eq!(names(&buildpacks, true), ["a", "b"]);
    }

    #[test]
    fn composites_expand_depth_first() {
        let nested = "buildpack = { id = 'outer' }\n\
            [[order]]\ngroup = [{ id = 'inner', optional = true }, { id = 'c' }]\n[[order]]\ngroup = [{ id = 'a' }]";
        let inner = "buildpack = { id = 'inner' }\n\
            [[order]]\ngroup = [{ id = 'a' }]\n[[order]]\ngroup = [{ id = 'b', optional = true }]";
        let buildpacks = [
            buildpack(nested),
            buildpack(inner),
            component("a"),
            component("b"),
            component("c"),
        ];
        let chosen = expand(
            &buildpacks,
            &[Member {
                buildpack: 0,
                optional: false,
            }],
            0,
        )
        .unwrap();
        let ids: Vec<Vec<&str>> = chosen
            .iter()
            .map(|group| group.iter().map(|member| buildpacks[member.buildpack].id()).collect())
            .collect();
        assert_eq!(ids, [vec!["a", "c"], vec!["b", "c"], vec!["c"], vec!["a"]]);
    }

    #[test]
    fn what_cannot_be_expanded_is_refused() {
        let missing = buildpack("buildpack = { id = 'm' }\n[[order]]\ngroup = [{ id = 'nowhere' }]");
        assert!(groups(&[missing], &[0], false).is_err());
        let endless = buildpack("buildpack = { id = 'e' }\n[[order]]\ngroup = [{ id = 'e' }]");
        assert!(groups(&[endless], &[0], false).is_err());
    }
}
