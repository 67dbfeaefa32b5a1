import * as fc from 'fast-check'
import t from 'tap'
import type { Step } from '#shared/store/own-keys.ts'
import { OwnKeys } from '#shared/store/own-keys.ts'

const none = new Map<string, string>()

/** Carries steps out on a map until none is left; answers the rounds. */
function settle(own: OwnKeys, store: Map<string, string>): readonly (readonly Step[])[] {
  const rounds: (readonly Step[])[] = []
  for (let steps = own.nextSteps(2); steps.length > 0; steps = own.nextSteps(2)) {
    if (rounds.push(steps) > 100) throw new Error('it never settles')
    for (const step of steps) carryOut(own, store, step)
  }
  return rounds
}

function carryOut(own: OwnKeys, store: Map<string, string>, step: Step): void {
  own.sending(step)
  if (step.kind === 'put') store.set(step.key, step.value)
  else store.delete(step.key)
  own.done(step, 7)
}

t.test('OwnKeys puts what is wanted, and only what differs', async (t) => {
  const own = new OwnKeys()
  const store = new Map<string, string>()
  own.want(
    new Map([
      ['a', '1'],
      ['b', '1'],
    ]),
    none,
  )
  settle(own, store)
  t.strictSame(
    store,
    new Map([
      ['a', '1'],
      ['b', '1'],
    ]),
  )
  own.want(
    new Map([
      ['a', '1'],
      ['b', '2'],
    ]),
    none,
  )
  t.strictSame(settle(own, store), [[{ kind: 'put', key: 'b', value: '2' }]])
})

t.test('OwnKeys puts a farewell before the delete, in a round of its own', async (t) => {
  const own = new OwnKeys()
  const store = new Map<string, string>()
  own.want(new Map([['a', 'up']]), new Map([['a', 'left']]))
  settle(own, store)
  own.want(none, none)
  t.strictSame(settle(own, store), [
    [{ kind: 'put', key: 'a', value: 'left' }],
    [{ kind: 'delete', key: 'a' }],
  ])
  t.equal(store.size, 0)
})

t.test('OwnKeys forgets a withdrawn key that was never sent', async (t) => {
  const own = new OwnKeys()
  own.want(new Map([['a', 'up']]), none)
  own.want(none, new Map([['a', 'left']]))
  t.strictSame(own.nextSteps(10), [])
})

t.test('OwnKeys takes a key that may have been written for written', async (t) => {
  const own = new OwnKeys()
  own.want(new Map([['a', 'up']]), none)
  for (const step of own.nextSteps(10)) own.sending(step)
  own.restart()
  own.want(none, none)
  t.strictSame(own.nextSteps(10), [{ kind: 'delete', key: 'a' }])
})

t.test('OwnKeys puts everything again in a new session', async (t) => {
  const own = new OwnKeys()
  own.want(
    new Map([
      ['a', '1'],
      ['b', '1'],
    ]),
    none,
  )
  settle(own, new Map())
  own.restart()
  const store = new Map<string, string>()
  settle(own, store)
  t.strictSame(
    store,
    new Map([
      ['a', '1'],
      ['b', '1'],
    ]),
  )
})

t.test('OwnKeys leaves a refused key out until it is tried again, and tells it once', async (t) => {
  const own = new OwnKeys()
  const store = new Map<string, string>()
  own.want(
    new Map([
      ['a', '1'],
      ['b', '1'],
    ]),
    none,
  )
  const [step] = own.nextSteps(1)
  if (step === undefined) throw new Error('nothing to do')
  t.ok(own.refused(step, 'denied'))
  settle(own, store)
  t.strictSame([...store.keys()], ['b'])
  t.strictSame(own.publication('a'), { kind: 'refused', problem: 'denied' })
  own.retryRefused()
  t.strictSame(own.nextSteps(10), [step])
  t.notOk(own.refused(step, 'denied'), 'no news')
  t.ok(own.refused(step, 'denied otherwise'))
  own.want(
    new Map([
      ['a', '2'],
      ['b', '1'],
    ]),
    none,
  )
  t.strictSame(own.nextSteps(10), [{ kind: 'put', key: 'a', value: '2' }], 'a new value is tried')
})

t.test('OwnKeys puts back what somebody deleted, but not what it withdrew', async (t) => {
  const own = new OwnKeys()
  const store = new Map<string, string>()
  own.want(new Map([['a', '1']]), none)
  t.notOk(own.lost('a'), 'not written yet')
  settle(own, store)
  t.ok(own.lost('a'))
  t.strictSame(settle(own, store), [[{ kind: 'put', key: 'a', value: '1' }]])
  own.want(none, none)
  t.notOk(own.lost('a'))
  t.notOk(own.lost('foreign'))
})

t.test('OwnKeys always ends with the store holding what is wanted', async (t) => {
  const key = fc.constantFrom('a', 'b', 'c')
  const desired = fc.dictionary(key, fc.constantFrom('1', '2'), { noNullPrototype: true })
  const farewells = fc.dictionary(key, fc.constantFrom('1', 'left'), { noNullPrototype: true })
  const command = fc.oneof(
    fc.record({ kind: fc.constant('want' as const), desired, farewells }),
    fc.record({ kind: fc.constant('step' as const), limit: fc.integer({ min: 1, max: 3 }) }),
    fc.record({ kind: fc.constant('lost answer' as const) }),
    fc.record({ kind: fc.constant('new session' as const), lapsed: fc.boolean() }),
    fc.record({ kind: fc.constant('deleted' as const), key }),
  )
  fc.assert(
    fc.property(fc.array(command, { maxLength: 30 }), (commands) => {
      const own = new OwnKeys()
      const store = new Map<string, string>()
      let wanted = none
      for (const each of commands) {
        if (each.kind === 'want') {
          wanted = new Map(Object.entries(each.desired))
          own.want(wanted, new Map(Object.entries(each.farewells)))
        } else if (each.kind === 'step') {
          for (const step of own.nextSteps(each.limit)) carryOut(own, store, step)
        } else if (each.kind === 'lost answer') {
          for (const step of own.nextSteps(1)) {
            own.sending(step)
            if (step.kind === 'put') store.set(step.key, step.value)
            else store.delete(step.key)
          }
          own.restart()
        } else if (each.kind === 'new session') {
          if (each.lapsed) store.clear()
          own.restart()
        } else if (store.delete(each.key)) own.lost(each.key)
      }
      settle(own, store)
      t.strictSame(store, wanted)
      for (const name of wanted.keys()) t.match(own.publication(name), { kind: 'stored' })
    }),
    { numRuns: 300, seed: 7 },
  )
})
