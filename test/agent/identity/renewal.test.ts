/** Holds the rules of renewal to a table of times. */

import * as fc from 'fast-check'
import t from 'tap'
import { dueAtMs, isValid, retryAfterMs } from '#agent/identity/renewal.ts'
import { renewAfterMs } from '#shared/pki/half-life.ts'

t.test('renewAfterMs is half the life, ten percent of it more or less', async (t) => {
  t.equal(renewAfterMs(1000, 0), 400)
  t.equal(renewAfterMs(1000, 0.5), 500)
  t.ok(renewAfterMs(1000, 0.999) < 600)
  t.equal(renewAfterMs(-5, 0.5), 0)
})

t.test(
  'dueAtMs: at once without a certificate, at its renewal with one, never before a retry',
  async (t) => {
    const held = { renewAtMs: 500, notAfterMs: 1000 }
    t.equal(dueAtMs({ held: null, retryAtMs: 0 }), 0)
    t.equal(dueAtMs({ held, retryAtMs: 0 }), 500)
    t.equal(dueAtMs({ held, retryAtMs: 700 }), 700)
    t.equal(dueAtMs({ held: { ...held, renewAtMs: 2000 }, retryAtMs: 0 }), 1000)
  },
)

t.test('isValid ends with the certificate', async (t) => {
  const standing = { held: { renewAtMs: 500, notAfterMs: 1000 }, retryAtMs: 0 }
  t.equal(isValid(standing, 999), true)
  t.equal(isValid(standing, 1000), false)
  t.equal(isValid({ held: null, retryAtMs: 0 }, 0), false)
})

t.test('retryAfterMs gives a dying certificate at least four more tries', async () => {
  fc.assert(
    fc.property(fc.nat(86_400_000), fc.nat(150_000), (leftMs, backoffMs) => {
      const standing = { held: { renewAtMs: 0, notAfterMs: leftMs }, retryAtMs: 0 }
      const wait = retryAfterMs(backoffMs, standing, 0)
      return wait <= backoffMs && (leftMs === 0 || wait <= Math.max(500, leftMs / 4))
    }),
    { seed: 20260101 },
  )
})
