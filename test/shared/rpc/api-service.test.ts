/** Holds refusals and failures of handlers to the errors that clients see. */

import t from 'tap'
import { systemClock as clock } from '#shared/lifecycle/clock.ts'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import { addApiService, refuse } from '#shared/rpc/api-service.ts'
import { createLogger } from '#shared/logging/logger.ts'
import { ControllerClient } from '#shared/rpc/controller-client.ts'
import { MtlsServer } from '#shared/rpc/mtls-server.ts'
import { makeTestCa } from '#test/support/certs.ts'

const ca = await makeTestCa()
const logger = createLogger({ name: 'test', level: 'silent' })

t.test(
  'a refusal arrives with its code and message; a failure tells no more than it should',
  async (t) => {
    const server = new MtlsServer(
      { clock, logger },
      { trustDomain: ca.trustDomain, listen: { host: '127.0.0.1', port: 0 }, anonymous: false },
    )
    const answers: [string, string][] = []
    addApiService(
      server.identified,
      'Certificates',
      {
        async RenewHost() {
          return refuse('denied', 'host-unknown', 'unknown host “ü”; enrol it again')
        },
        async IssueService() {
          throw new MeshError('the store is away', { code: 'store-unavailable' })
        },
        async DescribeMesh() {
          throw new TypeError('secret internals')
        },
      },
      {
        logger,
        identify: (call) => server.identify(call),
        onAnswer: (method, code) => answers.push([method, code]),
      },
    )
    const own = await ca.issue({ id: 'spiffe://mesh.internal/controller/c1' })
    server.setCredential({ ...own, bundlePem: ca.bundlePem })
    const { port } = await server.listen()
    t.teardown(() => server.stop(100))
    const host = await ca.issue({ id: 'spiffe://mesh.internal/host/h1' })
    const client = new ControllerClient(
      {
        clock,
        credential: { ...host, bundlePem: ca.bundlePem },
        expected: { kind: 'controller', trustDomain: ca.trustDomain },
      },
      { address: `127.0.0.1:${port}` },
    )
    const csr = Buffer.alloc(0)
    await t.rejects(client.call('Certificates', 'RenewHost', { csr }), {
      code: 'host-unknown',
      message: 'unknown host “ü”; enrol it again',
      retry: false,
    })
    await t.rejects(client.call('Certificates', 'IssueService', { service: 'orders', csr }), {
      code: 'store-unavailable',
      message: /the store is away/,
      retry: true,
    })
    const internal = client.call('Certificates', 'DescribeMesh', {})
    await t.rejects(internal, { code: 'internal', retry: true })
    await internal.catch((error: unknown) => t.notMatch(String(error), /secret/))
    t.same(answers, [
      ['RenewHost', 'host-unknown'],
      ['IssueService', 'store-unavailable'],
      ['DescribeMesh', 'internal'],
    ])
    const pending = t.rejects(client.call('Certificates', 'RenewHost', { csr }), {
      code: 'controller-cancelled',
    })
    client.close()
    await pending
  },
)

t.test('a call that goes through the whole store is given the time that takes', async (t) => {
  const server = new MtlsServer(
    { clock, logger },
    { trustDomain: ca.trustDomain, listen: { host: '127.0.0.1', port: 0 }, anonymous: false },
  )
  const done = Promise.withResolvers<void>()
  const late = async () => {
    await done.promise
    return refuse('denied', 'not-now', 'too late')
  }
  addApiService(
    server.identified,
    'StoreOperations',
    {
      async InitStore() {
        await done.promise
        return { ok: true, value: { admins: [], hosts: 7, ranges: 0 } }
      },
      DescribeStore: late,
      IssueStoreNode: late,
      MigrateStore: late,
      UndoMigration: late,
    },
    { logger, identify: (call) => server.identify(call), onAnswer() {} },
  )
  const own = await ca.issue({ id: 'spiffe://mesh.internal/controller/c1' })
  server.setCredential({ ...own, bundlePem: ca.bundlePem })
  const { port } = await server.listen()
  t.teardown(() => server.stop(100))
  const operator = await ca.issue({ id: 'spiffe://mesh.internal/operator/admin' })
  const client = new ControllerClient(
    {
      clock,
      credential: { ...operator, bundlePem: ca.bundlePem },
      expected: { kind: 'controller', trustDomain: ca.trustDomain },
    },
    { address: `127.0.0.1:${port}`, deadlineMs: 500 },
  )
  t.teardown(() => client.close())
  const slow = client.call('StoreOperations', 'InitStore', { endpoints: [] })
  await t.rejects(client.call('StoreOperations', 'DescribeStore', {}), {
    code: 'controller-timeout',
  })
  done.resolve()
  t.match(await slow, { hosts: 7 })
})
