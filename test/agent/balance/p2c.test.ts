import t from 'tap'
import { Endpoint, slowStartMs } from '#agent/balance/endpoint.ts'
import { P2c } from '#agent/balance/p2c.ts'

/** A small deterministic generator (mulberry32), so that shares can be asserted. */
function seeded(seed: number): { fraction(): number } {
  let state = seed
  return {
    fraction() {
      state = (state + 0x6d2b79f5) | 0
      let x = Math.imul(state ^ (state >>> 15), 1 | state)
      x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x
      return ((x ^ (x >>> 14)) >>> 0) / 4294967296
    },
  }
}

function shares(weights: readonly number[], picks: number): number[] {
  const endpoints = weights.map((weight) => new Endpoint(weight))
  const picker = new P2c(endpoints)
  const random = seeded(1)
  const counts = weights.map(() => 0)
  for (let i = 0; i < picks; i++) {
    const at = endpoints.indexOf(picker.pick(0, random, []) as Endpoint)
    counts[at] = (counts[at] ?? 0) + 1
  }
  return counts.map((count) => count / picks)
}

t.test('P2c answers null when there is nothing to pick', (t) => {
  t.equal(new P2c([]).pick(0, seeded(1), []), null)
  t.end()
})

t.test('P2c picks evenly among equal idle endpoints', (t) => {
  for (const share of shares([100, 100, 100, 100], 20_000)) {
    t.ok(Math.abs(share - 0.25) < 0.02, `share ${share}`)
  }
  t.end()
})

t.test('P2c draws by weight while nothing is under way', (t) => {
  const [heavy = 0, light = 0] = shares([300, 100], 20_000)
  t.ok(Math.abs(heavy - 0.75) < 0.02, `heavy ${heavy}`)
  t.ok(Math.abs(light - 0.25) < 0.02, `light ${light}`)
  t.end()
})

t.test('P2c prefers the endpoint with less under way', (t) => {
  const busy = new Endpoint(100)
  const idle = new Endpoint(100)
  busy.active = 5
  const picker = new P2c([busy, idle])
  const random = seeded(2)
  let toBusy = 0
  for (let i = 0; i < 1000; i++) if (picker.pick(0, random, []) === busy) toBusy++
  t.ok(toBusy < 350, `the busy one is picked only when drawn twice: ${toBusy}`)
  t.end()
})

t.test('P2c avoids the endpoint that has just failed unless it is the only one', (t) => {
  const failed = new Endpoint(100)
  const other = new Endpoint(100)
  const random = seeded(3)
  const picker = new P2c([failed, other])
  for (let i = 0; i < 100; i++) t.equal(picker.pick(0, random, [failed]), other)
  t.equal(new P2c([failed]).pick(0, random, [failed]), failed)
  t.end()
})

t.test('P2c avoids every endpoint that has failed while another is left', (t) => {
  const [first, second, third] = [new Endpoint(1), new Endpoint(1), new Endpoint(1)]
  const picker = new P2c([first, second, third])
  const random = seeded(6)
  for (let i = 0; i < 100; i++) t.equal(picker.pick(0, random, [first, third]), second)
  t.not(picker.pick(0, random, [first, second, third]), null, 'when all have failed, any will do')
  t.end()
})

t.test('P2c leaves out ejected endpoints until their time is over', (t) => {
  const ejected = new Endpoint(100)
  const usable = new Endpoint(100)
  ejected.ejectedUntil = 50
  const picker = new P2c([ejected, usable])
  const random = seeded(4)
  for (let i = 0; i < 100; i++) t.equal(picker.pick(49, random, []), usable)
  const seen = new Set<Endpoint | null>()
  for (let i = 0; i < 100; i++) seen.add(picker.pick(50, random, []))
  t.equal(seen.size, 2)
  t.end()
})

t.test('P2c still picks when every endpoint is ejected', (t) => {
  const endpoints = [new Endpoint(1), new Endpoint(2)]
  for (const endpoint of endpoints) endpoint.ejectedUntil = 100
  t.not(new P2c(endpoints).pick(0, seeded(5), []), null)
  t.end()
})

t.test('P2c leaves a lost host’s instances out, unless there are no others', (t) => {
  const endpoints = [new Endpoint(100), new Endpoint(100), new Endpoint(100)]
  const host = { isLost: true }
  for (const lost of endpoints.slice(0, 2)) lost.host = host
  const picker = new P2c(endpoints)
  const random = seeded(3)
  for (let i = 0; i < 100; i++) t.equal(picker.pick(0, random, []), endpoints[2])
  host.isLost = false
  t.ok(Array.from({ length: 100 }, () => picker.pick(0, random, [])).includes(endpoints[0] ?? null))
  host.isLost = true
  const alone = new P2c(endpoints.slice(0, 2))
  t.not(alone.pick(0, random, []), null)
  t.end()
})

t.test('P2c gives a new instance a growing part of its share', (t) => {
  const [old, young] = [new Endpoint(100), new Endpoint(100)]
  young.warmUntil = slowStartMs
  const picker = new P2c([old, young])
  const random = seeded(4)
  const shareAt = (now: number): number => {
    let count = 0
    for (let i = 0; i < 10_000; i++) if (picker.pick(now, random, []) === young) count++
    return count / 10_000
  }
  const [cold, half, warm] = [shareAt(0), shareAt(slowStartMs / 2), shareAt(slowStartMs)]
  t.ok(cold < half && half < warm, `${cold} < ${half} < ${warm}`)
  t.ok(Math.abs(warm - 0.5) < 0.02, `warm ${warm}`)
  t.end()
})
