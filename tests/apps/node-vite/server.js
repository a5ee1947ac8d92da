// Serves what `vite build` left in dist; every other path is the page's own.
import { createServer } from 'node:http';
import sirv from 'sirv';

const files = sirv('dist', { single: true });
createServer((request, response) => files(request, response)).listen(process.env.PORT ?? 8080);
