// A small Express app: / greets, /env tells which variables the platform set.
const express = require('express')
const compression = require('compression')
const morgan = require('morgan')

const app = express()
app.use(morgan('tiny'))
app.use(compression())
app.get('/', (request, response) => {
  response.type('text').send(`Hello from Express on Node.js ${process.version}\n`)
})
app.get('/env', (request, response) => {
  response.json({
    instance: process.env.CF_INSTANCE_INDEX,
    node_env: process.env.NODE_ENV,
    node_options: process.env.NODE_OPTIONS,
    web_concurrency: process.env.WEB_CONCURRENCY,
  })
})

const server = app.listen(process.env.PORT || 8080, () => {
  console.log(`listening on ${server.address().port}`)
})
process.on('SIGTERM', () => server.close(() => process.exit(0)))
