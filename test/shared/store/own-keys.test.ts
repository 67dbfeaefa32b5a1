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
  t.notOk(own.lost('a', 6), 'not written yet')
  settle(own, store)
  t.notOk(own.lost('a', 6), 'before it was written')
  t.ok(own.lost('a', 8))
  own.done({ kind: 'put', key: 'a', value: '1' }, 7)
  t.match(own.publication('a'), { kind: 'pending' }, 'the answer is older than the loss')
  const [put] = own.nextSteps(10)
  t.strictSame(put, { kind: 'put', key: 'a', value: '1' })
  own.done(put as Step, 9)
  own.want(none, none)
  t.notOk(own.lost('a', 10))
  t.notOk(own.lost('foreign', 10))
})

t.test('OwnKeys writes again what a late write has changed', async (t) => {
  const own = new OwnKeys()
  own.want(new Map([['a', '2']]), none)
  settle(own, new Map())
  t.notOk(own.found('a', '1', 6), 'its own write came later')
  t.notOk(own.found('a', '2', 7), 'its own write')
  t.ok(own.found('a', '1', 8))
  t.strictSame(own.nextSteps(10), [{ kind: 'put', key: 'a', value: '2' }])
  t.ok(own.found('b', '1', 9), 'nobody wants that')
  t.match(own.nextSteps(10), [{ kind: 'put' }, { kind: 'delete', key: 'b' }])
})

t.test(
  'OwnKeys knows its own writes of what it has withdrawn when it sees them late',
  async (t) => {
    const own = new OwnKeys()
    own.want(new Map([['a', '1']]), none)
    settle(own, new Map())
    own.want(none, none)
    const [gone] = own.nextSteps(10)
    own.done(gone as Step, 9)
    t.notOk(own.found('a', '1', 7))
    t.strictSame(own.nextSteps(10), [])
    t.ok(own.found('a', '1', 10))
  },
)

t.test('OwnKeys keeps what stands in a new session, but for what is in doubt', async (t) => {
  const own = new OwnKeys()
  const all = new Map(['a', 'b', 'c'].map((key) => [key, '1']))
  own.want(all, none)
  settle(own, new Map())
  own.sending({ kind: 'put', key: 'b', value: '1' })
  t.ok(own.isDoubtful((key) => key === 'b'))
  t.notOk(own.isDoubtful((key) => key === 'a'))
  own.restart({ upTo: 7, covers: (key) => key !== 'c' })
  t.match(own.publication('a'), { kind: 'stored', revision: 7 })
  t.strictSame(
    own.nextSteps(10).map(({ key }) => key),
    ['b', 'c'],
  )
  t.notOk(own.isDoubtful(() => true))
})

t.test('OwnKeys knows what a history that was set back does not have', async (t) => {
  const own = new OwnKeys()
  const all = new Map(['a', 'b'].map((key) => [key, '1']))
  own.want(all, none)
  own.done({ kind: 'put', key: 'a', value: '1' }, 5)
  own.done({ kind: 'put', key: 'b', value: '1' }, 8)
  own.restart({ upTo: 7, covers: () => true })
  t.strictSame(own.nextSteps(10), [{ kind: 'put', key: 'b', value: '1' }])
  own.sending({ kind: 'put', key: 'b', value: '1' })
  own.done({ kind: 'put', key: 'b', value: '1' }, 8)
  own.want(new Map([['a', '1']]), none)
  own.done({ kind: 'delete', key: 'b' }, 9)
  own.restart({ upTo: 9, covers: () => true })
  t.notOk(own.found('b', '1', 8), 'before it was withdrawn')
  own.restart()
  t.ok(own.found('b', '1', 8), 'a listing has it, whatever was withdrawn in another history')
})

t.test('OwnKeys leaves what somebody else has written until the next session', async (t) => {
  const own = new OwnKeys()
  own.want(new Map([['a', '1']]), none)
  own.done({ kind: 'put', key: 'a', value: '1' }, 5)
  own.overwritten('a', 4)
  own.overwritten('foreign', 6)
  t.notOk(own.isDoubtful(() => true))
  own.overwritten('a', 6)
  t.strictSame(own.nextSteps(10), [])
  own.restart({ upTo: 9, covers: () => true })
  t.strictSame(own.nextSteps(10), [{ kind: 'put', key: 'a', value: '1' }])
})

/** A store with its history, writes that are under way to it, and a watch that is behind. */
class PlayedStore {
  revision = 0
  readonly entries = new Map<string, { readonly value: string; readonly revision: number }>()
  #late: Step[] = []
  #lease = 1
  readonly #events: {
    readonly step: Step
    readonly revision: number
    readonly lease: number
  }[] = []

  take(step: Step): number {
    if (step.kind === 'delete' && !this.entries.has(step.key)) return this.revision
    this.revision += 1
    const { revision } = this
    if (step.kind === 'put') this.entries.set(step.key, { value: step.value, revision })
    else this.entries.delete(step.key)
    this.#events.push({ step, revision, lease: this.#lease })
    return revision
  }

  later(step: Step): void {
    this.#late.push(step)
  }

  arrive(): void {
    const step = this.#late.shift()
    if (step !== undefined) this.take(step)
  }

  /** Tells of so many changes. */
  tell(own: OwnKeys, count: number): void {
    for (const { step, revision, lease } of this.#events.splice(0, count)) {
      if (step.kind === 'delete') own.lost(step.key, revision)
      else if (lease === this.#lease) own.found(step.key, step.value, revision)
    }
  }

  /** The lease lapses, all its keys go, and what comes under it later is refused; there is a new one. */
  lapse(): void {
    this.#late = []
    for (const key of this.entries.keys()) this.take({ kind: 'delete', key })
    this.#lease += 1
  }

  /** All that is under way arrives, and is told. */
  settle(own: OwnKeys): void {
    while (this.#late.length > 0) this.arrive()
    this.tell(own, this.#events.length)
  }
}

t.test(
  'OwnKeys always ends with the store holding what is wanted, however late writes and news come',
  async (t) => {
    const key = fc.constantFrom('a', 'b')
    const desired = fc.dictionary(key, fc.constantFrom('1', '2'), { noNullPrototype: true })
    const farewells = fc.dictionary(key, fc.constantFrom('left'), { noNullPrototype: true })
    const command = fc.oneof(
      fc.record({ kind: fc.constant('want' as const), desired, farewells }),
      fc.record({ kind: fc.constant('step' as const), toldFirst: fc.boolean() }),
      fc.record({ kind: fc.constant('lost answer' as const), isLate: fc.boolean() }),
      fc.record({ kind: fc.constant('arrives' as const) }),
      fc.record({ kind: fc.constant('told' as const), count: fc.integer({ min: 1, max: 3 }) }),
      fc.record({ kind: fc.constant('listed' as const) }),
      fc.record({ kind: fc.constant('lapsed' as const) }),
      fc.record({ kind: fc.constant('deleted' as const), key }),
    )
    fc.assert(
      fc.property(fc.array(command, { maxLength: 40 }), (commands) => {
        const own = new OwnKeys()
        const store = new PlayedStore()
        let wanted = none
        for (const each of commands) {
          const [step] = own.nextSteps(1)
          switch (each.kind) {
            case 'want':
              wanted = new Map(Object.entries(each.desired))
              own.want(wanted, new Map(Object.entries(each.farewells)))
              break
            case 'step': {
              if (step === undefined) break
              own.sending(step)
              const revision = store.take(step)
              if (each.toldFirst) store.tell(own, Infinity)
              own.done(step, revision)
              break
            }
            case 'lost answer':
              if (step === undefined) break
              own.sending(step)
              if (each.isLate) store.later(step)
              else store.take(step)
              own.restart({ upTo: Infinity, covers: () => true })
              break
            case 'arrives':
              store.arrive()
              break
            case 'told':
              store.tell(own, each.count)
              break
            case 'listed':
              store.tell(own, Infinity)
              own.restart()
              for (const [at, { value, revision }] of store.entries) own.found(at, value, revision)
              break
            case 'lapsed':
              store.lapse()
              own.restart()
              break
            case 'deleted':
              store.take({ kind: 'delete', key: each.key })
              break
          }
        }
        store.settle(own)
        for (let rounds = 0; own.nextSteps(2).length > 0; rounds++) {
          if (rounds > 100) throw new Error('it never settles')
          for (const step of own.nextSteps(2)) {
            own.sending(step)
            own.done(step, store.take(step))
          }
          store.settle(own)
        }
        t.strictSame(new Map([...store.entries].map(([at, { value }]) => [at, value])), wanted)
        for (const name of wanted.keys()) t.match(own.publication(name), { kind: 'stored' })
      }),
      { numRuns: 1000, seed: 11 },
    )
  },
)
