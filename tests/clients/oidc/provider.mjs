// An identity provider to sign in at in tests: oidc-provider from npm, with two users who need no password.
// Arguments: where browsers may be sent back to, and the client's id and secret. Says its issuer as a line of JSON.

import http from 'node:http';
import { createRequire } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

// Its notices are not for whoever reads the line below.
console.info = console.error;

const [, , modules, callback, clientId, clientSecret] = process.argv;
const require = createRequire(path.join(modules, 'package.json'));
const { default: Provider } = await import(pathToFileURL(require.resolve('oidc-provider')).href);

const server = http.createServer();
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [{
      client_id: clientId,
      client_secret: clientSecret,
      redirect_uris: [callback],
      grant_types: ['authorization_code'],
      response_types: ['code'],
    }],
    scopes: ['openid', 'profile'],
    claims: { openid: ['sub'], profile: ['preferred_username'] },
    // In the identity token, not only at the user's endpoint.
    conformIdTokenClaims: false,
    findAccount: (_, id) => ({
      accountId: id,
      claims: () => ({ sub: `subject-${id}`, preferred_username: `${id}@example.org` }),
    }),
    pkce: { required: () => true },
    cookies: { keys: ['only for tests'] },
    features: { devInteractions: { enabled: true } },
  });
  server.on('request', provider.callback());
  process.stdout.write(`${JSON.stringify({ issuer })}\n`);
});
// Gone with whoever started it.
process.stdin.on('end', () => process.exit(0)).resume();
