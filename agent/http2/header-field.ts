/** Owns a header field as HTTP/2 carries it: a lower-case name and a value of Latin-1 text. */

/** One header field or pseudo-header field (RFC 9113 §8.2). */
export interface HeaderField {
  readonly name: string
  readonly value: string
  /** Never put into a compression table, here or further on (RFC 7541 §7.1.3). */
  readonly sensitive: boolean
}

/** Makes a field. */
export function headerField(name: string, value: string, sensitive = false): HeaderField {
  return { name, value, sensitive }
}

/** The size a field counts for in tables and limits (RFC 7541 §4.1), bytes. */
export function fieldBytes(field: HeaderField): number {
  return field.name.length + field.value.length + 32
}
