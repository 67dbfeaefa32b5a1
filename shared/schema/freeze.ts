/** Owns deep freezing of plain data, so that a shared value cannot be changed by whoever holds it. */

/** Freezes plain objects and arrays through and through; parts that are frozen are trusted to be. */
export function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value)
    for (const part of Object.values(value)) deepFreeze(part)
  }
  return value
}
