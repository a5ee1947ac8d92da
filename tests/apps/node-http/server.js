// A web server of the standard library.
const { createServer } = require('node:http');

const server = createServer((request, response) => response.end(`Hello from Node.js ${process.version}\n`));
server.listen(process.env.PORT || 8080);
process.on('SIGTERM', () => server.close(() => process.exit(0)));
