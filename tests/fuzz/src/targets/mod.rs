//! The targets, by what they parse.

mod archives;
mod buildpacks;
mod images;
mod layers;
mod protocol;
mod texts;

use crate::Target;

/// A target: its module's function, and its seeds beside it.
macro_rules! target {
    ($name:literal, $module:ident, $run:ident, $seeds:ident) => {
        Target {
            name: $name,
            run: $module::$run,
            seeds: $module::$seeds,
        }
    };
}

/// Every target.
pub const ALL: &[Target] = &[
    target!("zip", archives, zip, zip_seeds),
    target!("registry-archive", archives, registry, registry_seeds),
    target!("layer", layers, plain, plain_seeds),
    target!("layer-compressed", layers, compressed, compressed_seeds),
    target!("image-layer", layers, image, image_seeds),
    target!("image-documents", images, documents, document_seeds),
    target!("manifest", texts, manifest, manifest_seeds),
    target!("procfile", texts, procfile, procfile_seeds),
    target!("values", texts, values, value_seeds),
    target!("buildpack-toml", buildpacks, descriptors, descriptor_seeds),
    target!("build-plan", buildpacks, plans, plan_seeds),
    target!("launch-toml", buildpacks, launch, launch_seeds),
    target!("build-result", buildpacks, result, result_seeds),
    target!("bundle", protocol, bundle, bundle_seeds),
    target!("init-messages", protocol, messages, message_seeds),
    target!("log-segments", protocol, segments, segment_seeds),
    target!("log-envelopes", protocol, envelopes, envelope_seeds),
    target!("egress", protocol, egress, egress_seeds),
];
