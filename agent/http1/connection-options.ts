/** Owns the reading of the Connection field (RFC 9110 §7.6.1). Pure. */

import { isToken } from './bytes.ts'

/** What the Connection fields of one message say. */
export class ConnectionOptions {
  close = false
  keepAlive = false
  upgrade = false
  /** Names of fields that end at this hop by the message's own word; null where there are none. */
  nominated: Set<string> | null = null

  reset(): void {
    this.close = this.keepAlive = this.upgrade = false
    this.nominated = null
  }

  /** Adds one field's value; false when it is not a list of tokens. */
  add(value: string): boolean {
    // What nearly everybody sends.
    if (value === 'keep-alive') {
      this.keepAlive = true
      return true
    }
    if (value === 'close') {
      this.close = true
      return true
    }
    return value
      .toLowerCase()
      .split(',')
      .every((part) => this.#addOption(part.replace(/^[ \t]+|[ \t]+$/g, '')))
  }

  #addOption(option: string): boolean {
    switch (option) {
      case '':
      case 'te':
        return true
      case 'close':
        this.close = true
        return true
      case 'keep-alive':
        this.keepAlive = true
        return true
      case 'upgrade':
        this.upgrade = true
        return true
    }
    if (!isToken(option)) return false
    this.nominated ??= new Set()
    this.nominated.add(option)
    return true
  }
}
