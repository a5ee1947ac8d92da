"""Hooks of schemathesis: half of the ids in paths and bodies are of something that is there.

Without them nearly every answer would be 404. `PAAS_KNOWN_IDS` names a file of ids by what they are of.
"""

import json
import os

import schemathesis

with open(os.environ["PAAS_KNOWN_IDS"], encoding="utf-8") as file:
    KNOWN = json.load(file)

# What `{guid}` is of, by the first part of a path, and ids in bodies, by the name that they stand under.
SUBJECTS = {
    "organizations": "org", "spaces": "space", "roles": "role", "users": "user", "Users": "user", "domains": "domain",
    "routes": "route", "processes": "process", "tasks": "task", "packages": "package", "builds": "build",
    "droplets": "droplet", "revisions": "revision", "deployments": "deployment", "audit_events": "event",
    "stacks": "stack", "service_instances": "instance", "service_credential_bindings": "binding",
    "buildpacks": "buildpack", "organization_quotas": "quota", "space_quotas": "space_quota",
    "security_groups": "group", "apps": "app", "read": "app", "Groups": "spare",
}
NAMES = {
    "organization": "org", "organizations": "org", "spaces": "space", "service_instance": "instance",
    "running_spaces": "space", "staging_spaces": "space",
}


def chosen(text):
    """Half of all texts, always the same ones."""
    return sum(str(text).encode("utf-8", "replace")) % 2 == 0


@schemathesis.check
def no_fault(_, response, case):
    """What is not built answers 501, as CF does; anything else from 500 on is a fault."""
    assert response.status_code < 500 or response.status_code == 501, response.text


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    path = context.operation.path
    # What is removed would be missing in all that follows.
    if not path_parameters or context.operation.method.upper() == "DELETE":
        return path_parameters
    parts = [part for part in path.split("/") if part and part not in ("v3", "api", "v1")]
    for name, value in path_parameters.items():
        known = KNOWN.get(SUBJECTS.get(parts[0], "")) if name in ("guid", "source") else KNOWN.get(name)
        if known and chosen(value):
            path_parameters[name] = known
        elif name == "type" and chosen(value):
            path_parameters[name] = "web"
        elif name == "index":
            path_parameters[name] = 0 if chosen(value) else value
    return path_parameters


def placed(value, name):
    if isinstance(value, dict):
        for key, inner in value.items():
            known = KNOWN.get(NAMES.get(name, name))
            if key == "guid" and isinstance(inner, str) and known and chosen(inner):
                value[key] = known
            else:
                value[key] = placed(inner, name if key == "data" else key)
    elif isinstance(value, list):
        return [placed(inner, name) for inner in value]
    return value


@schemathesis.hook
def map_body(context, body):
    return placed(body, "")
