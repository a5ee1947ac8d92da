//! What serves the app: nginx in front of FPM, both started by one script that ends when one of them does.

use crate::runtime::Php;
use buildpack_kit::{BuildContext, Result, Types, memory};

/// Sets what depends on the memory of the instance, when it starts.
const EXEC_D: &str = include_str!("memory.sh");
const SCRIPT: &str = include_str!("serve.sh");
/// Name of the program.
pub const PROGRAM: &str = "serve-php";

/// Writes the layer with the script and what programs of the app find beside them.
///
/// # Errors
/// Where it cannot be written.
pub fn write(context: &BuildContext, php: &Php, web: &str) -> Result<()> {
    let mut layer = context.layer("server");
    layer.reset()?;
    layer.write_program("bin", PROGRAM, &script(php, web))?;
    layer.write("env", "LD_LIBRARY_PATH.prepend", &php.libraries().display().to_string())?;
    layer.write("env", "LD_LIBRARY_PATH.delim", ":")?;
    let ini = php.layer.dir.join("etc");
    layer.write("env", "PHPRC.default", &ini.display().to_string())?;
    // Without it the settings of the stack's own PHP, if it has one, would be read too.
    layer.write("env", "PHP_INI_SCAN_DIR.default", "")?;
    layer.write_program("exec.d", "memory", &memory::program(EXEC_D))?;
    let types = Types {
        build: true,
        ..Types::LAUNCH
    };
    layer.keep(types, "server", &[])
}

fn script(php: &Php, web: &str) -> String {
    let root = if web.is_empty() {
        "$HOME".to_owned()
    } else {
        format!("$HOME/{web}")
    };
    SCRIPT
        .replace("@PHP@", &php.layer.dir.display().to_string())
        .replace("@LINE@", &php.line())
        .replace("@ROOT@", &root)
}

#[cfg(test)]
mod tests {
    use super::*;
    use buildpack_kit::Layer;

    #[test]
    fn the_script_is_one_that_a_shell_reads() {
        let folder = tempfile::tempdir().unwrap();
        let php = Php {
            layer: Layer::open(folder.path(), "php"),
            version: "8.2.36".to_owned(),
        };
        let text = script(&php, "public");
        assert!(
            text.contains("php-fpm8.2") && text.contains("root=\"$HOME/public\"") && !text.contains('@'),
            "{text}"
        );
        let mut shell = std::process::Command::new("bash");
        assert!(shell.args(["-n", "-c", &text]).status().unwrap().success());
    }
}
