/** Holds globs to a table and to a regular expression as an oracle. */

import * as fc from 'fast-check'
import t from 'tap'
import { coversService, parseServiceGlobs } from '#shared/model/service-globs.ts'
import type { ServiceName } from '#shared/model/names.ts'

const covers = (glob: string, name: string): boolean => coversService([glob], name as ServiceName)

t.test('coversService: * stands for any run of characters, none included', async (t) => {
  const table: readonly (readonly [string, string, boolean])[] = [
    ['*', 'orders', true],
    ['orders', 'orders', true],
    ['orders', 'orders2', false],
    ['orders', 'order', false],
    ['orders*', 'orders', true],
    ['orders*', 'orders-eu', true],
    ['*-eu', 'orders-eu', true],
    ['*-eu', 'orders-us', false],
    ['o*s', 'orders', true],
    ['o*s', 'os', true],
    ['os*s', 'os', false],
    ['a*a', 'a', false],
    ['a*b*c', 'axxbxxc', true],
    ['a*b*c', 'acb', false],
    ['**', 'x', true],
  ]
  for (const [glob, name, answer] of table) t.equal(covers(glob, name), answer, `${glob} ${name}`)
  t.equal(coversService([], 'orders' as ServiceName), false)
  t.equal(coversService(['a', 'orders'], 'orders' as ServiceName), true)
})

t.test('coversService agrees with a regular expression', async () => {
  const text = (letters: string[], maxLength: number): fc.Arbitrary<string> =>
    fc.array(fc.constantFrom(...letters), { maxLength }).map((parts) => parts.join(''))
  fc.assert(
    fc.property(text(['a', 'b', '*'], 8), text(['a', 'b'], 10), (glob, name) => {
      return covers(glob, name) === new RegExp(`^${glob.replaceAll('*', '.*')}$`).test(name)
    }),
    { seed: 20260101, numRuns: 5000 },
  )
})

t.test('parseServiceGlobs refuses what no service name could match', async (t) => {
  for (const globs of [['*'], ['orders', 'carts-*', '*-eu', '1*']]) {
    t.equal(parseServiceGlobs(globs).ok, true, globs.join())
  }
  const bad = ['', 'Orders', 'or ders', 'a.b', 'a/b', '-a', 'a-', '[a-z]', 'a?', 'a'.repeat(64)]
  for (const glob of bad) t.equal(parseServiceGlobs([glob]).ok, false, glob)
  t.equal(parseServiceGlobs([]).ok, false)
  t.equal(parseServiceGlobs(Array.from({ length: 101 }, () => '*')).ok, false)
})
