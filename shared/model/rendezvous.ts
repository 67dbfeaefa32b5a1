/**
 * Owns rendezvous hashing (Thaler and Ravishankar 1998): an order of names that is another one for each
 * seed and the same wherever it is asked for, and in which a name that comes or goes moves no other. Pure.
 */

/** The first names of the order that a seed gives them. @param names each once */
export function rendezvous(seed: string, names: readonly string[], most: number): string[] {
  const begun = hash(seed, 0x811c9dc5)
  const scored = names.map((name) => ({ name, score: mix(hash(name, begun)) }))
  scored.sort((a, b) => b.score - a.score || (a.name < b.name ? -1 : 1))
  return scored.slice(0, most).map(({ name }) => name)
}

/** FNV-1a. */
function hash(text: string, seed: number): number {
  let state = seed
  for (let i = 0; i < text.length; i++) {
    state = Math.imul(state ^ text.charCodeAt(i), 0x01000193)
  }
  return state
}

/** MurmurHash3's last step: similar names get scores that have nothing in common. */
function mix(value: number): number {
  let x = value ^ (value >>> 16)
  x = Math.imul(x, 0x85ebca6b)
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35)
  return (x ^ (x >>> 16)) >>> 0
}
