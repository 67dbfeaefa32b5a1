/** Owns how a number of things reads: as in `1 service` and `2 services`. Pure. */

/** The number with its noun; `many` where that takes more than an s. */
export function counted(count: number, one: string, many = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`
}
