import { once } from 'node:events'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { ask, Load, type Target } from '#cli/demo/load.ts'

async function target(t: Test, listener: RequestListener): Promise<Target> {
  const server = createServer(listener).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => void server.close())
  const { port } = server.address() as AddressInfo
  const authority = `127.0.0.1:${port}`
  return { name: 'a', host: '127.0.0.1', port, path: '/who', authority, connections: 3 }
}

t.test('Load counts every request once, by who answered and by what failed', async (t) => {
  let served = 0
  const enough = Promise.withResolvers<void>()
  const answering = await target(t, (request, response) => {
    served++
    if (served === 60) enough.resolve()
    if (served % 10 === 0) {
      response.writeHead(503, { 'x-mesh-reason': 'no-instances' }).end()
    } else if (served % 10 === 1) request.socket.destroy()
    else response.end(`{"host":"${served % 2 === 0 ? 'even' : 'odd'}"}`)
  })
  const load = new Load({ targets: [answering] })
  load.start()
  await enough.promise
  await load.stop()
  const { requests, failed, byHost, byTarget, failures } = load.count
  t.equal(requests, served)
  t.equal(failed, Math.floor(served / 10) + Math.floor((served + 9) / 10))
  t.equal((byHost['even'] ?? 0) + (byHost['odd'] ?? 0), requests - failed)
  t.same(byTarget, { a: requests })
  t.match(failures, [/a: socket hang up/])
  t.ok(failures.some((text) => text === 'a: 503 no-instances'))
})

t.test('ask tells refused connections and half answers from answers', async (t) => {
  const half = await target(t, (_request, response) => {
    response.writeHead(200, { 'content-length': '100' })
    response.write('{"host":"x"}', () => response.socket?.destroy())
  })
  t.match(await ask(half), { ok: false, problem: /aborted/ })
  t.match(await ask({ ...half, port: 1 }), { ok: false, problem: /ECONNREFUSED/ })
})
