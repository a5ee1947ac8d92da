//! Documents of images, as a lifecycle and a command line read them from registries and layouts.

use image::{Config, Document, Reference};

/// A manifest, an index, a configuration or a reference.
pub fn documents(data: &[u8]) {
    if let Ok(Document::Index(index)) = Document::parse(data) {
        let _ = index.choose();
    }
    if let Ok(config) = Config::parse(data) {
        let runs = config.runs(String::new());
        assert!(runs.workdir.is_empty() || runs.workdir.starts_with('/'), "no folder");
        assert!(!runs.argv().iter().any(|word| word.contains('\0')), "no argument");
        let _ = runs.command();
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(reference) = text.parse::<Reference>() {
        let shown = reference.to_string();
        assert_eq!(
            shown.parse::<Reference>().ok().as_ref(),
            Some(&reference),
            "{shown} is another"
        );
        assert!(!reference.repository.contains(".."), "{shown} leads up");
    }
}

pub fn document_seeds() -> Vec<Vec<u8>> {
    let digest = format!("sha256:{}", "ab".repeat(32));
    let blob = format!(r#"{{"mediaType":"x","digest":"{digest}","size":1}}"#);
    let texts = [
        format!(r#"{{"schemaVersion":2,"config":{blob},"layers":[{blob}]}}"#),
        format!(r#"{{"schemaVersion":2,"manifests":[{{"digest":"{digest}","platform":{{"os":"linux"}}}}]}}"#),
        format!(
            r#"{{"os":"linux","config":{{"Env":["A=b"],"Cmd":["x"],"User":"a:b","WorkingDir":"/srv",
            "ExposedPorts":{{"80/tcp":{{}}}}}},"rootfs":{{"type":"layers","diff_ids":["{digest}"]}}}}"#
        ),
        format!("localhost:5000/team/shop:1.2@{digest}"),
        "busybox".to_owned(),
    ];
    texts.into_iter().map(String::into_bytes).collect()
}
