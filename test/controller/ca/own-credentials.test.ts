/** Holds the controller's own credentials to their renewal, on a clock that the test turns. */

import { mkdirSync, readFileSync, rmdirSync } from 'node:fs'
import t from 'tap'
import { Authority } from '#controller/ca/authority.ts'
import { OwnCredentials } from '#controller/ca/own-credentials.ts'
import { type Random, systemRandom } from '#shared/lifecycle/clock.ts'
import { createLogger } from '#shared/logging/logger.ts'
import { must, parseHostName, parseTrustDomain } from '#shared/model/names.ts'
import { splitPem } from '#shared/pki/trust.ts'
import type { ServerCredential } from '#shared/rpc/mtls-server.ts'
import { FakeClock } from '#test/support/fake-clock.ts'
import { testDirectory } from '#test/support/test-directory.ts'
import { until } from '#test/support/until.ts'

const logger = createLogger({ name: 'test', level: 'silent' })
const hour = 3_600_000
/** Serials and keys as they come, and no jitter: what is renewed is due at half its life exactly. */
const random: Random = { ...systemRandom, fraction: () => 0.5 }

interface Bench {
  readonly clock: FakeClock
  readonly own: OwnCredentials
  readonly authority: Authority
  readonly given: ServerCredential[]
  /** Turns the clock until so many server credentials were given. */
  readonly turnUntil: (count: number) => Promise<void>
}

async function setUp(stateDirectory: string): Promise<Bench> {
  const clock = new FakeClock({ epoch: Date.now() })
  const authority = await Authority.open(
    { clock, random, logger },
    { stateDirectory, trustDomain: must(parseTrustDomain('mesh.internal')), leafTtlMs: hour },
  )
  const given: ServerCredential[] = []
  const onServerCredential = (credential: ServerCredential): void => void given.push(credential)
  const own = new OwnCredentials(
    { authority, clock, random, logger, onServerCredential },
    { name: must(parseHostName('c1')), stateDirectory, operatorTtlMs: 2 * hour },
  )
  const turnUntil = async (count: number): Promise<void> => {
    while (given.length < count) {
      await clock.advance(60_000)
      await new Promise((resolve) => {
        setTimeout(resolve, 2)
      })
    }
  }
  return { clock, own, authority, given, turnUntil }
}

t.test(
  'the server certificate is renewed at half its life, with a new key and the root along',
  async (t) => {
    const { own, authority, given, clock } = await setUp(testDirectory(t))
    t.teardown(() => own.stop())
    await own.start()
    const begin = clock.now()
    await clock.advance(hour * 0.49)
    t.equal(clock.pending, 1, 'not before')
    await clock.advance(hour * 0.02)
    await until('it is renewed', () => given.length === 2, { withinMs: 30_000 })
    t.not(given[0]?.keyPem, given[1]?.keyPem)
    const chain = must(splitPem(given[1]?.chainPem ?? ''))
    t.equal(chain.length, 3)
    t.same(chain[2]?.raw, must(splitPem(authority.bundlePem))[0]?.raw)
    t.equal(own.serverEndsMs > begin + hour, true)
  },
)

t.test("the operator's file is renewed, and a failure to write it is tried again", async (t) => {
  const state = testDirectory(t)
  const { own, turnUntil, clock } = await setUp(state)
  t.teardown(() => own.stop())
  await own.start()
  const file = `${state}/operator.json`
  mkdirSync(file)
  await t.rejects(own.writeOperatorFile('127.0.0.1:1'), { code: 'state-unwritable' })
  // Due at once from here on: each round fails on the directory in its place.
  await turnUntil(2)
  rmdirSync(file)
  const read = (): string => {
    try {
      return readFileSync(file, 'utf8')
    } catch {
      return ''
    }
  }
  const turn = async (before: string): Promise<string> => {
    while (read() === before) {
      await clock.advance(10_000)
      await new Promise((resolve) => {
        setTimeout(resolve, 2)
      })
    }
    return read()
  }
  const first = await turn('')
  const second = await turn(first)
  const controller = '127.0.0.1:1'
  t.match(JSON.parse(second), { id: 'spiffe://mesh.internal/operator/admin', controller })
})
