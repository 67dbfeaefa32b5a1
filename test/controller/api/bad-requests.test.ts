/** Bad signing requests and bad tokens on every call that issues: none gets a certificate. */

import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import t, { type Test } from 'tap'
import { systemClock as clock } from '#shared/lifecycle/clock.ts'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import { must, parseTrustDomain } from '#shared/model/names.ts'
import { makeCsr } from '#shared/pki/csr.ts'
import { formatJoinToken, parseJoinToken } from '#shared/pki/join-token.ts'
import { generateKey, keyToPem } from '#shared/pki/keys.ts'
import { ControllerClient } from '#shared/rpc/controller-client.ts'
import type { EnrolReply } from '#shared/rpc/host-messages.ts'
import { badCsrs } from '#test/support/bad-csrs.ts'
import { startController, type RunningController } from '#test/support/controller.ts'
import { testDirectory } from '#test/support/test-directory.ts'

const trustDomain = must(parseTrustDomain('mesh.internal'))
const key = await generateKey()
const csr = await makeCsr(key)

interface Bench {
  readonly controller: RunningController
  readonly clientWith: (chainPem?: string) => ControllerClient
  readonly enrol: (token: string, request?: Buffer, host?: string) => Promise<EnrolReply>
  /** Certificates issued so far. */
  readonly issued: () => number
}

/** A controller for each test: enrolments from one address are limited. */
async function setUp(t: Test): Promise<Bench> {
  const controller = await startController(testDirectory(t), { leafTtlMs: 60_000 })
  t.teardown(() => controller.stop())
  const { bundlePem } = JSON.parse(readFileSync(controller.operatorFile, 'utf8')) as {
    bundlePem: string
  }
  const clientWith = (chainPem?: string): ControllerClient => {
    const own = chainPem === undefined ? {} : { chainPem, keyPem: keyToPem(key) }
    const expected = { kind: 'controller', trustDomain } as const
    const credential = { bundlePem, ...own }
    const client = new ControllerClient(
      { clock, credential, expected },
      { address: controller.address },
    )
    t.teardown(() => client.close())
    return client
  }
  const nobody = clientWith()
  return {
    controller,
    clientWith,
    enrol: (token, request = csr, host = 'h1') =>
      nobody.call('Enrolment', 'Enrol', { token, csr: request, host }),
    issued: () =>
      controller.lines.filter(({ audit }) => {
        return audit === 'certificate-issued' || audit === 'host-enrolled'
      }).length,
  }
}

async function codeOf(call: Promise<unknown>): Promise<string> {
  try {
    await call
    return 'issued'
  } catch (error) {
    return error instanceof MeshError ? error.code : String(error)
  }
}

t.test('no bad signing request is signed, whoever sends it', async (t) => {
  const { controller, clientWith, enrol, issued } = await setUp(t)
  const { certificate } = await enrol(await controller.token())
  const host = clientWith(certificate.chainPem)
  const token = await controller.token()
  const before = issued()
  t.ok(badCsrs.length >= 40, `${badCsrs.length} bad requests`)
  for (const [what, request] of badCsrs) {
    const codes = await Promise.all([
      codeOf(enrol(token, request)),
      codeOf(host.call('Certificates', 'RenewHost', { csr: request })),
      codeOf(host.call('Certificates', 'IssueService', { service: 'orders', csr: request })),
    ])
    t.same(codes, ['bad-csr', 'bad-csr', 'bad-csr'], what)
  }
  t.equal(issued(), before)
  t.equal(await codeOf(enrol(token)), 'issued', 'and the token is still good')
})

t.test('no bad token lets a host in', async (t) => {
  const { controller, enrol, issued } = await setUp(t)
  const good = await controller.token()
  const parts = must(parseJoinToken(good))
  const used = await controller.token()
  await enrol(used)
  const flip = (buffer: Buffer): Buffer => {
    const changed = Buffer.from(buffer)
    changed[7] = (changed[7] ?? 0) ^ 1
    return changed
  }
  const [mark = '', id = '', secret = '', hash = ''] = good.split('.')
  const before = issued()
  const bad: Readonly<Record<string, string>> = {
    nothing: '',
    'white space': '  ',
    'another word': 'hello',
    'the mark alone': 'hmjoin1.',
    'another mark': ['hmjoin2', id, secret, hash].join('.'),
    'the mark in upper case': ['HMJOIN1', id, secret, hash].join('.'),
    'no hash': [mark, id, secret].join('.'),
    'an empty secret': [mark, id, '', hash].join('.'),
    'a part too many': `${good}.x`,
    'a byte too many': `${good}x`,
    'a byte too few': good.slice(0, -1),
    'a line end inside': good.replace('.', '.\n'),
    'two tokens': `${good} ${good}`,
    'another alphabet': good
      .replaceAll('-', '+')
      .replaceAll('_', '/')
      .replace(id, `+${id.slice(1)}`),
    padding: `${good}=`,
    'another spelling of its last byte': `${good.slice(0, -1)}${good.endsWith('B') ? 'C' : 'B'}`,
    'another secret': formatJoinToken({ ...parts, secret: randomBytes(32) }),
    'a secret with one bit changed': formatJoinToken({ ...parts, secret: flip(parts.secret) }),
    'a secret of zeros': formatJoinToken({ ...parts, secret: Buffer.alloc(32) }),
    'an id nobody knows': formatJoinToken({ ...parts, id: 'AAAAAAAAAAAAAAAA' }),
    'the id of a used token': formatJoinToken({ ...parts, id: must(parseJoinToken(used)).id }),
    'the hash of another root': formatJoinToken({ ...parts, rootHash: randomBytes(32) }),
    'a hash with one bit changed': formatJoinToken({ ...parts, rootHash: flip(parts.rootHash) }),
    'a used token': used,
    'a token of another mesh': formatJoinToken({
      id: 'abcdefgh01234567',
      secret: randomBytes(32),
      rootHash: randomBytes(32),
    }),
    'a very long one': `hmjoin1.${'x'.repeat(50_000)}`,
  }
  for (const [what, token] of Object.entries(bad)) {
    t.match(await codeOf(enrol(token)), /^token-/, what)
  }
  t.equal(await codeOf(enrol(good, csr, 'h2')), 'token-for-another-host')
  t.equal(issued(), before)
  t.equal(await codeOf(enrol(good)), 'issued', 'the good one still is')
})
