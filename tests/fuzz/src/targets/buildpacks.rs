//! What buildpacks declare and leave behind. A buildpack is a tenant's own program.

use crate::scratch::Scratch;
use lifecycle::cnb::descriptor::Buildpack;
use lifecycle::cnb::plan::{BuildPlan, Candidate, resolve};
use lifecycle::cnb::{layers, order};
use lifecycle::metadata::LaunchMetadata;
use model::staging::{BuildResult, BuildpackMount};

/// Between the parts of an input that stands for several files.
const CUT: u8 = 0;
/// Parts that are looked at.
const PARTS: usize = 6;

fn parts(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    data.split(|byte| *byte == CUT).take(PARTS)
}

fn seeds(all: &[&[&str]]) -> Vec<Vec<u8>> {
    all.iter().map(|texts| texts.join("\0").into_bytes()).collect()
}

/// `buildpack.toml` of a few buildpacks, and the groups that they make of each other.
pub fn descriptors(data: &[u8]) {
    let scratch = Scratch::new();
    let mut loaded = Vec::new();
    for (at, text) in parts(data).enumerate() {
        let dir = scratch.path().join(at.to_string());
        std::fs::create_dir_all(dir.join("bin")).expect("memory takes a folder");
        std::fs::write(dir.join("bin/build"), "").expect("memory takes a file");
        std::fs::write(dir.join("buildpack.toml"), text).expect("memory takes a file");
        let mount = BuildpackMount {
            name: format!("buildpack {at}"),
            path: dir.to_string_lossy().into_owned(),
            source: None,
        };
        loaded.extend(Buildpack::load(&mount).ok());
    }
    let roots: Vec<usize> = (0..loaded.len()).collect();
    for alternatives in [true, false] {
        for group in order::groups(&loaded, &roots, alternatives).into_iter().flatten() {
            assert!(
                group.iter().all(|member| member.buildpack < loaded.len()),
                "a member that is not there"
            );
        }
    }
}

pub fn descriptor_seeds() -> Vec<Vec<u8>> {
    let one = "api = \"0.10\"\n[buildpack]\nid = \"a/one\"\nversion = \"1.0.0\"\nname = \"One\"\nclear-env = true\n[[targets]]\nos = \"linux\"\narch = \"amd64\"\n";
    let two = "api = \"0.12\"\n[buildpack]\nid = \"a/two\"\nversion = \"2.0.0\"\n";
    let all = "api = \"0.11\"\n[buildpack]\nid = \"a/all\"\nversion = \"1.0.0\"\n[[order]]\n[[order.group]]\nid = \"a/one\"\nversion = \"1.0.0\"\n[[order.group]]\nid = \"a/two\"\noptional = true\n[[order]]\n[[order.group]]\nid = \"a/two\"\n";
    let selfish = "api = \"0.10\"\n[buildpack]\nid = \"s\"\nversion = \"1\"\n[[order]]\n[[order.group]]\nid = \"s\"\n[[order.group]]\nid = \"s\"\n";
    seeds(&[&[one], &[one, two, all], &[selfish], &[all, all, one, two]])
}

/// Plans that detection wrote, resolved with each other.
pub fn plans(data: &[u8]) {
    let mut candidates = Vec::new();
    for (buildpack, text) in parts(data).enumerate() {
        let plan = std::str::from_utf8(text)
            .ok()
            .and_then(|text| toml::from_str::<BuildPlan>(text).ok());
        candidates.extend(plan.map(|plan| Candidate {
            buildpack,
            optional: buildpack % 2 == 1,
            plan,
        }));
    }
    if let Ok(resolved) = resolve(&candidates) {
        let known = |buildpack: &usize| candidates.iter().any(|candidate| candidate.buildpack == *buildpack);
        assert!(resolved.buildpacks.iter().all(known), "a buildpack that did not pass");
        for entry in resolved.entries.values() {
            assert!(entry.providers.iter().all(known), "a provider that did not pass");
        }
    }
}

pub fn plan_seeds() -> Vec<Vec<u8>> {
    let provides = "[[provides]]\nname = \"node\"\n[[requires]]\nname = \"node\"\n[requires.metadata]\nversion = \"20\"\nlaunch = true\n";
    let either =
        "[[provides]]\nname = \"a\"\n[[or]]\n[[or.provides]]\nname = \"b\"\n[[or.requires]]\nname = \"node\"\n[[or]]\n";
    let many = "[[or]]\n".repeat(12);
    seeds(&[
        &[provides],
        &[provides, either],
        &[&many, &many, &many, &many, provides],
    ])
}

/// `launch.toml`, a layer's TOML, the metadata that launches read, and what classic buildpacks print and leave.
pub fn launch(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    lifecycle::fuzzing::launch_toml(text);
    if let Ok(layer) = toml::from_str::<layers::LayerToml>(text) {
        let again = toml::to_string(&layer).expect("what was read can be written");
        assert_eq!(
            toml::from_str::<layers::LayerToml>(&again).ok(),
            Some(layer),
            "it changed on the way"
        );
    }
    if let Ok(metadata) = toml::from_str::<LaunchMetadata>(text) {
        for process in &metadata.processes {
            let _ = process.template();
        }
    }
    let scratch = Scratch::new();
    lifecycle::fuzzing::classic(text, &scratch.write("launch.yml", data));
}

pub fn launch_seeds() -> Vec<Vec<u8>> {
    seeds(&[
        &[
            "[[processes]]\ntype = \"web\"\ncommand = [\"node\", \"server.js\"]\nargs = [\"-x\"]\ndefault = true\nworking-dir = \"/workspace\"\n[[labels]]\nkey = \"paas.process.source.web\"\nvalue = \"Procfile\"\n",
        ],
        &[
            "[types]\nlaunch = true\nbuild = false\ncache = true\n[metadata]\nversion = \"1\"\nwhen = 1979-05-27T07:32:00Z\nlist = [1, 2.5, true]\n",
        ],
        &[
            "[[buildpacks]]\nid = \"a\"\nversion = \"1\"\n[[processes]]\ntype = \"web\"\ncommand = [\"bash\", \"-c\", \"it's\"]\ndirect = true\nsource = \"x\"\n",
        ],
        &[
            "---\nprocesses:\n- type: web\n  command: run it\n  platforms:\n    cloudfoundry:\n      sidecar_for: [web]\n  limits: {memory: 10}\n",
        ],
        &["---\ndefault_process_types:\n  web: run it\nconfig_vars: {A: b}\naddons: []\n"],
        &["---\nname: x\nversion: 1.2\nconfig:\n  entrypoint_prefix: y\n"],
    ])
}

/// What a build left for its cell.
pub fn result(data: &[u8]) {
    if let Ok(result) = serde_json::from_slice::<BuildResult>(data) {
        let text = serde_json::to_vec(&result).expect("what was read can be written");
        assert!(
            serde_json::from_slice::<BuildResult>(&text).is_ok(),
            "it changed on the way"
        );
    }
}

pub fn result_seeds() -> Vec<Vec<u8>> {
    let digest = format!("sha256:{}", "ab".repeat(32));
    let layer = format!(r#"{{"digest":"{digest}","size_bytes":10,"kind":"app","name":"app","file":"0001.tar.zst"}}"#);
    let cached = format!(
        r#"{{"buildpack":"a","layer":"b","digest":"{digest}","size_bytes":1,"types":{{"launch":true}},"metadata":{{"x":[1]}},"contents":true}}"#
    );
    vec![
        format!(r#"{{"layers":[{layer}],"cache":[{cached}],"cache_files":[],"processes":[{{"type":"web","command":"c","source":"s","default":true}}],"buildpacks":[{{"id":"a","name":"n","version":"1"}}],"store":{{}},"error":null}}"#).into_bytes(),
        br#"{"layers":[],"error":{"class":"staging","title":"t","why":"w","remedy":"r"}}"#.to_vec(),
    ]
}
