/**
 * Owns whose turn it is to dial a far agent: few tunnels to each at a time, in the order they were asked
 * for. A handshake costs both sides a millisecond or more. Who has hundreds to make, because the agent there
 * was started again, and makes them all at once, is late with every one and begins anew. A far agent that
 * takes them is given more at a time: to a distant one each lasts long, and costs no more.
 */

import type { Reason } from '#shared/model/reason.ts'

/** So many handshakes with one far agent are under way at once, of this worker: at first, and at most. */
const atFirst = 8
const atMost = 24

/** Leave to dial; it has to be given back. */
export interface Turn {
  /** The handshake is over, or never began; twice does no harm. */
  end(how: 'worked' | 'failed' | 'unused'): void
  /** Nobody answered. All who wait are told, unless another dial has worked since: then it was this one alone. */
  unreached(reason: Reason, detail: string): void
}

/** Who wishes to dial. */
export interface Dialler {
  /** Its turn has come. */
  dial(turn: Turn): void
  /** It waited in vain: the far agent did not answer another one. */
  unreached(reason: Reason, detail: string): void
}

/** Of one far agent. */
interface Turns {
  readonly waiting: Set<Dialler>
  underWay: number
  /** So many may be under way. */
  limit: number
  /** How many have worked. */
  worked: number
  /** Turns are being given, and those that come back meanwhile with them. */
  isGiving: boolean
}

/** See the header. */
export class DialTurns {
  readonly #places = new Map<string, Turns>()

  /** Gives a turn, now or later; to who waits already, no other one. */
  ask(place: string, dialler: Dialler): void {
    let turns = this.#places.get(place)
    if (turns === undefined) {
      turns = { waiting: new Set(), underWay: 0, limit: atFirst, worked: 0, isGiving: false }
      this.#places.set(place, turns)
    }
    turns.waiting.add(dialler)
    this.#next(place, turns)
  }

  /** Who waits for a turn wishes for none any more. */
  leave(place: string, dialler: Dialler): void {
    this.#places.get(place)?.waiting.delete(dialler)
  }

  /** How many dials have worked there since somebody first waited, for who waits; null for who does not. */
  workedFor(place: string, dialler: Dialler): number | null {
    const turns = this.#places.get(place)
    return turns?.waiting.has(dialler) === true ? turns.worked : null
  }

  #next(place: string, turns: Turns): void {
    if (turns.isGiving) return
    turns.isGiving = true
    while (turns.underWay < turns.limit) {
      const [first] = turns.waiting
      if (first === undefined) break
      turns.waiting.delete(first)
      turns.underWay++
      first.dial(this.#turn(place, turns))
    }
    turns.isGiving = false
    if (turns.underWay === 0 && turns.waiting.size === 0) this.#places.delete(place)
  }

  #turn(place: string, turns: Turns): Turn {
    const { worked } = turns
    let isOver = false
    return {
      end: (how) => {
        if (isOver) return
        isOver = true
        turns.underWay--
        if (how === 'worked') {
          turns.worked++
          turns.limit = Math.min(turns.limit + 1, atMost)
        } else if (how === 'failed') turns.limit = atFirst
        this.#next(place, turns)
      },
      unreached: (reason, detail) => {
        if (isOver || turns.worked > worked) return
        const waiting = [...turns.waiting]
        turns.waiting.clear()
        for (const one of waiting) one.unreached(reason, detail)
      },
    }
  }
}
