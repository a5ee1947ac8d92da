//! `paas droplet`.

use crate::actor::Cx;
use crate::actor::export::{Wanted, run as export_droplet};
use crate::args::image::{Droplet, DropletCommand, Export};
use crate::errors::Error;
use crate::ui::format;
use model::Secret;

/// Has the password of registries.
const PASSWORD: &str = "PAAS_REGISTRY_PASSWORD";
/// Names registries that are spoken to without TLS, with commas between.
const INSECURE: &str = "PAAS_INSECURE_REGISTRIES";

/// Takes a droplet elsewhere.
pub async fn run(cx: &Cx, args: Droplet) -> Result<(), Error> {
    match args.command {
        DropletCommand::Export(args) => export(cx, *args).await,
    }
}

async fn export(cx: &Cx, args: Export) -> Result<(), Error> {
    cx.ui
        .doing(&format!("Exporting the droplet of {} in {}", args.app, cx.place()));
    let insecure = cx.env.var(INSECURE).unwrap_or_default();
    let wanted = Wanted {
        output: args.output.map(|path| cx.env.cwd.join(path)),
        to: args.to,
        base: args.base,
        username: args.username,
        password: cx.env.var(PASSWORD).map(Secret::new),
        insecure: insecure.split(',').map(|one| one.trim().to_owned()).collect(),
        certificates: cx.env.var("SSL_CERT_FILE").map(Into::into),
        cwd: cx.env.cwd.clone(),
    };
    let exported = export_droplet(cx, &args.app, wanted).await?;
    if cx.ui.json() {
        cx.ui.document(&serde_json::json!(exported));
        return Ok(());
    }
    let layers = format::count(exported.layers, "layer", "layers");
    if let Some(path) = &exported.output {
        cx.ui
            .out_line(&format!("{}: {layers}, {}", path.display(), exported.digest));
    }
    if let Some(reference) = &exported.pushed {
        let sent = exported.sent;
        cx.ui
            .out_line(&format!("{reference}: {layers}, {sent} sent, {}", exported.digest));
    }
    Ok(())
}
