import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import t from 'tap'
import { MetricsServer } from '#agent/admin/metrics-server.ts'
import { createLogger } from '#shared/logging/logger.ts'

const logger = createLogger({ name: 'test', level: 'silent' })

t.test('MetricsServer serves metrics and readiness and nothing else', async (t) => {
  let ready = false
  const source = {
    metricsText: async () => 'mesh_x 1\n',
    readiness: () => ({ ready, waitsFor: ready ? '' : 'the first snapshot' }),
  }
  const server = new MetricsServer({ source, logger }, { address: '127.0.0.1', port: 0 })
  await server.start()
  t.teardown(() => server.stop())
  const get = async (path: string): Promise<[number, string]> => {
    const response = await fetch(`http://127.0.0.1:${server.port}${path}`)
    return [response.status, await response.text()]
  }
  t.same(await get('/metrics'), [200, 'mesh_x 1\n'])
  t.same(await get('/healthz'), [200, 'ok\n'])
  t.same(await get('/readyz'), [503, 'not ready: waits for the first snapshot\n'])
  ready = true
  t.same(await get('/readyz'), [200, 'ready\n'])
  t.equal((await get('/v1/status'))[0], 404)
})

t.test('MetricsServer collects once for scrapes that arrive together', async (t) => {
  let collections = 0
  const source = {
    metricsText: () => {
      const body = `n ${++collections}\n`
      return new Promise<string>((resolve) => setImmediate(() => resolve(body)))
    },
    readiness: () => ({ ready: true, waitsFor: '' }),
  }
  const server = new MetricsServer({ source, logger }, { address: '127.0.0.1', port: 0 })
  await server.start()
  t.teardown(() => server.stop())
  const socket = connect(server.port, '127.0.0.1')
  const get = 'GET /metrics HTTP/1.1\r\nhost: x\r\n'
  socket.write(`${get}\r\n${get}connection: close\r\n\r\n`)
  t.same((await text(socket)).match(/^n \d$/gm), ['n 1', 'n 1'])
  t.equal(collections, 1)
})

t.test('MetricsServer says who to ask when its port is taken', async (t) => {
  const source = { metricsText: async () => '', readiness: () => ({ ready: true, waitsFor: '' }) }
  const server = new MetricsServer({ source, logger }, { address: '127.0.0.1', port: 0 })
  await server.start()
  t.teardown(() => server.stop())
  const second = new MetricsServer({ source, logger }, { address: '127.0.0.1', port: server.port })
  await t.rejects(second.start(), { code: 'listen-failed', hint: /another process/ })
})
