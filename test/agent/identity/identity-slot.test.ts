import t from 'tap'
import { IdentitySlot } from '#agent/identity/identity-slot.ts'
import { systemRandom } from '#shared/lifecycle/clock.ts'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import { createLogger } from '#shared/logging/logger.ts'
import { FakeClock } from '#test/support/fake-clock.ts'

const logger = createLogger({ name: 'test', level: 'silent' })
const away = new MeshError('away', { code: 'controller-unavailable', retry: true })
const refused = new MeshError('no', { code: 'token-used' })

function longestWait(error: MeshError, notAfterMs: number | null): number {
  const clock = new FakeClock()
  const slot = new IdentitySlot(
    { clock, random: systemRandom, logger },
    { identity: 'host', lastAwayMs: 20_000 },
  )
  if (notAfterMs !== null) {
    slot.held = { notAfterMs: clock.now() + notAfterMs, renewAtMs: 0 } as typeof slot.held
  }
  let longest = 0
  for (let i = 0; i < 200; i++) {
    slot.fail(error)
    longest = Math.max(longest, slot.retryAtMs - clock.now())
  }
  return longest
}

t.test(
  'IdentitySlot waits less for a controller where there is no valid certificate',
  async (t) => {
    t.ok(longestWait(away, null) <= 20_000, 'none is held')
    t.ok(longestWait(away, -1) <= 20_000, 'it has ended')
    t.ok(longestWait(away, 86_400_000) > 20_000, 'one is valid')
    t.ok(longestWait(refused, null) > 20_000, 'only a person can mend it')
  },
)
