"""What a user of the package `cloudfoundry-client` does, against a live platform: log in, make, push, scale, run a
task, roll out, narrow lists, delete. Arguments: address of the API, password of `admin`, archive of an app, address
of the router. It ends with a line of JSON."""

import json
import sys
import time

from cloudfoundry_client.client import CloudFoundryClient
from cloudfoundry_client.errors import InvalidStatusCode
from cloudfoundry_client.v3.packages import PackageType

API, PASSWORD, ARCHIVE, ROUTER = sys.argv[1:5]
DEADLINE = 240
steps = []


def step(name):
    steps.append(name)
    print("-----> %s" % name, flush=True)


def wait_for(what, look):
    """Polls as clients of CF do: the package itself has no events."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.1)
    raise SystemExit("%s did not come" % what)


def refused(status, call, *arguments, **named):
    try:
        call(*arguments, **named)
    except InvalidStatusCode as error:
        assert int(error.status_code) == status, error
        return error
    raise SystemExit("%s was not refused" % call)


step("log in")
refused_client = CloudFoundryClient(API)
try:
    refused_client.init_with_user_credentials("admin", "not the password")
    raise SystemExit("a wrong password is let in")
except Exception as error:
    assert "401" in str(error) or "unauthorized" in str(error).lower(), error
client = CloudFoundryClient(API)
client.init_with_user_credentials("admin", PASSWORD)
assert client.refresh_token
again = CloudFoundryClient(API)
again.init_with_token(client.refresh_token)
assert again.v3.organizations.get_first() is not None

step("organisation, space and roles")
v3 = client.v3
organization = v3.organizations.create("python", suspended=False)
space = v3.spaces.create("python-space", organization["guid"])
assert space.organization()["guid"] == organization["guid"], "links lead to resources"
assert [found["guid"] for found in v3.spaces.list(organization_guids=organization["guid"])] == [space["guid"]]
assert v3.organizations.get_first(names="python")["guid"] == organization["guid"]
assert v3.organizations.get_first(names="no-such-organisation") is None
refused(404, v3.organizations.get, "6f3a1c5e-0000-4000-8000-000000000000")
refused(422, v3.organizations.create, "python", suspended=False)

step("app, package and upload")
app = v3.apps._create({"name": "pyapp", "relationships": {"space": {"data": {"guid": space["guid"]}}}})
assert app.space()["guid"] == space["guid"]
package = v3.packages.create(app["guid"], PackageType.BITS, meta_labels={"suite": "python"})
package = v3.packages._upload_bits(package["guid"], ARCHIVE)
package = wait_for("a ready package", lambda: (lambda p: p if p["state"] == "READY" else None)(v3.packages.get(package["guid"])))
assert [found["guid"] for found in v3.packages.list(label_selector="suite=python")] == [package["guid"]]

step("build")
build = client.post("%s/v3/builds" % API, json={"package": {"guid": package["guid"]}}).json()


def staged():
    found = client.get("%s/v3/builds/%s" % (API, build["guid"])).json()
    assert found["state"] != "FAILED", found
    return found if found["state"] == "STAGED" else None


droplet = wait_for("a droplet", staged)["droplet"]["guid"]
assert [found["guid"] for found in v3.apps.list_droplets(app["guid"])] == [droplet]

step("route and start")
domain = v3.domains.get_first()
route = client.post("%s/v3/routes" % API, json={"host": "pyapp", "relationships": {
    "space": {"data": {"guid": space["guid"]}}, "domain": {"data": {"guid": domain["guid"]}}}}).json()
client.post("%s/v3/routes/%s/destinations" % (API, route["guid"]),
            json={"destinations": [{"app": {"guid": app["guid"]}}]})
client.patch("%s/v3/apps/%s/relationships/current_droplet" % (API, app["guid"]), json={"data": {"guid": droplet}})
client.post("%s/v3/apps/%s/actions/start" % (API, app["guid"]))


def running(count):
    def look():
        stats = client.get("%s/v3/apps/%s/processes/web/stats" % (API, app["guid"])).json()["resources"]
        return [s["state"] for s in stats] == ["RUNNING"] * count and all(s.get("routable", True) for s in stats)
    return look


wait_for("a running instance", running(1))


def answers():
    import requests
    return requests.get("http://%s/" % ROUTER, headers={"Host": "pyapp.%s" % domain["name"]}, timeout=10)


wait_for("an answer", lambda: answers().status_code == 200)
assert v3.apps.get_env(app["guid"])["application_env_json"]["VCAP_APPLICATION"]["name"] == "pyapp"
assert "pyapp" in v3.apps.get_manifest(app["guid"])
assert [found["url"] for found in v3.apps.list_routes(app["guid"])] == [route["url"]]

step("scale")
client.post("%s/v3/apps/%s/processes/web/actions/scale" % (API, app["guid"]), json={"instances": 3})
wait_for("three instances", running(3))
assert v3.processes.get_first(app_guids=app["guid"], types="web")["instances"] == 3

step("task")
task = v3.tasks.create(app["guid"], "echo from a task; exit 0", name="once")
task = wait_for("the task's end", lambda: (lambda t: t if t["state"] in ("SUCCEEDED", "FAILED") else None)(v3.tasks.get(task["guid"])))
assert task["state"] == "SUCCEEDED", task
long = v3.tasks.create(app["guid"], "sleep 600")
v3.tasks.cancel(long["guid"])
wait_for("the cancelled task's end", lambda: v3.tasks.get(long["guid"])["state"] == "FAILED")

step("roll out, and look at revisions")
deployment = client.post("%s/v3/deployments" % API, json={
    "droplet": {"guid": droplet}, "strategy": "rolling", "relationships": {"app": {"data": {"guid": app["guid"]}}}}).json()
wait_for("the end of the rollout", lambda: client.get("%s/v3/deployments/%s" % (API, deployment["guid"])).json()["status"]["reason"] == "DEPLOYED")
assert [found["version"] for found in v3.apps.list_revisions(app["guid"])] == [1]
assert answers().status_code == 200
kinds = {event["type"] for event in v3.audit_events.list(target_guids=app["guid"])}
assert {"audit.app.create", "audit.app.start", "audit.app.process.scale", "audit.app.deployment.create"} <= kinds, kinds

step("delete")
job = v3.apps.remove(app["guid"], asynchronous=True)
assert v3.jobs.wait_for_job_completion(job)["state"] == "COMPLETE"
refused(404, v3.apps.get, app["guid"])
client.delete("%s/v3/routes/%s" % (API, route["guid"]))
wait_for("the route's end", lambda: answers().status_code == 404)
v3.spaces.remove(space["guid"])
v3.organizations.remove(organization["guid"])
assert v3.organizations.get_first(names="python") is None
print(json.dumps({"steps": steps}))
