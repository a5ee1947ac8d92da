//! What bodies look like, for the OpenAPI document: built with the feature `schema` alone, which no program has.
//!
//! The operations themselves are in [`crate::v3::operations`].

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;
use std::marker::PhantomData;

/// An instant, as RFC 3339 writes it.
pub struct Time;

impl JsonSchema for Time {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "date-time"})
    }
}

/// A kind of content, with what it looks like where that can be told.
pub trait Content {
    /// Its media type.
    const KIND: &'static str;

    /// What it looks like.
    fn schema(generator: &mut SchemaGenerator) -> Schema;
}

/// A JSON document of this type.
pub struct Json<T>(PhantomData<T>);

/// A form of this type.
pub struct Form<T>(PhantomData<T>);

/// A manifest.
pub struct Yaml;

/// A form with files: `bits`, and for packages `resources`.
pub struct Upload;

/// An archive.
pub struct Gzip;

/// An archive that is not compressed.
pub struct Tar;

/// A zip archive.
pub struct Zip;

impl<T: JsonSchema> Content for Json<T> {
    const KIND: &'static str = "application/json";

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<T>()
    }
}

impl<T: JsonSchema> Content for Form<T> {
    const KIND: &'static str = "application/x-www-form-urlencoded";

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<T>()
    }
}

impl Content for Yaml {
    const KIND: &'static str = "application/x-yaml";

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "object"})
    }
}

impl Content for Upload {
    const KIND: &'static str = "multipart/form-data";

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "properties": {
                "bits": {"type": "string", "contentMediaType": "application/octet-stream"},
                "resources": {"type": "string", "contentMediaType": "application/json"},
            },
        })
    }
}

impl Content for Gzip {
    const KIND: &'static str = "application/gzip";

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "contentMediaType": "application/gzip"})
    }
}

impl Content for Tar {
    const KIND: &'static str = "application/x-tar";

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "contentMediaType": "application/x-tar"})
    }
}

impl Content for Zip {
    const KIND: &'static str = "application/zip";

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "contentMediaType": "application/zip"})
    }
}

/// A body: its media type and what it looks like.
#[derive(Clone, Copy)]
pub struct Described {
    /// Media type.
    pub kind: &'static str,
    /// Adds what it consists of to the generator.
    pub schema: fn(&mut SchemaGenerator) -> Schema,
}

impl Described {
    /// As this kind of content.
    #[must_use]
    pub const fn of<C: Content>() -> Self {
        Self {
            kind: C::KIND,
            schema: C::schema,
        }
    }
}

/// What a route takes and answers when all is well.
#[derive(Clone, Copy)]
pub struct Operation {
    /// The route that it describes.
    pub route: crate::Route,
    /// Body of the request, where it has one.
    pub takes: Option<Described>,
    /// Status of the answer.
    pub status: u16,
    /// Body of the answer, where it has one.
    pub answers: Option<Described>,
}
