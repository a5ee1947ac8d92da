//! `paas download-droplet`.

use crate::actor::Cx;
use crate::args::staging::DownloadDroplet;
use crate::errors::Error;
use crate::ui::format;
use serde_json::json;

/// Saves a droplet as one archive.
pub async fn download(cx: &Cx, args: DownloadDroplet) -> Result<(), Error> {
    cx.ui
        .doing(&format!("Downloading the droplet of {} in {}", args.app, cx.place()));
    let target = cx.target().await?;
    let app = target.app(&args.app).await?;
    let droplet = match args.droplet {
        Some(droplet) => droplet,
        None => match target.client.current_droplet(&app.guid).await? {
            Some(droplet) => droplet.guid,
            None => return Err(Error::usage(format!("{} has no droplet: push it first", app.name))),
        },
    };
    let name = format!("droplet_{droplet}.tgz");
    let file = match args.path.map(|path| cx.env.cwd.join(path)) {
        None => cx.env.cwd.join(name),
        Some(folder) if folder.is_dir() => folder.join(name),
        Some(file) => file,
    };
    let bytes = target.client.download_droplet(&droplet, &file).await?;
    if cx.ui.json() {
        cx.ui
            .document(&json!({"droplet": droplet, "file": file, "bytes": bytes}));
    } else {
        cx.ui.out_line(&file.display().to_string());
        cx.ui.tip(&format!(
            "{}; `paas push --droplet {}` runs it",
            format::bytes(bytes),
            file.display()
        ));
    }
    Ok(())
}
