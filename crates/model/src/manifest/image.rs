//! What a manifest says of an image. Which one it is only the command line needs to know, which makes the package of it.

use super::read::Map;

/// Whether the app is an image.
pub(super) fn docker(map: &Map<'_>) -> bool {
    let docker = map.map("docker");
    if let Some(docker) = &docker {
        docker.only(&["image", "username"]);
        let image = docker.text("image");
        docker.text("username");
        if image.is_none() && !docker.has("image") {
            docker.report.add(&docker.at("image"), "is missing", None);
        }
        if map.has("buildpack") || map.has("buildpacks") {
            let both = "Cannot specify both buildpack(s) and docker keys";
            map.report.add(&map.at("docker"), both, None);
        }
        if map.has("path") {
            map.report
                .add(&map.at("docker"), "can't be used together with path", None);
        }
    }
    docker.is_some() || map.text("lifecycle") == Some("docker")
}
