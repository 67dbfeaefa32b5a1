/**
 * Owns the kernel's switch that lets connections which wait at a closing port go to another program
 * that listens there, as the next generation does (ip-sysctl, `tcp_migrate_req`; Linux 5.14). Without it
 * a port is emptied right before it closes, and who comes in the microseconds between is reset.
 */

import { readFileSync, writeFileSync } from 'node:fs'

const path = '/proc/sys/net/ipv4/tcp_migrate_req'

/** Whether the switch is on. */
export function connectionsMigrate(): boolean {
  try {
    return readFileSync(path, 'latin1').trim() === '1'
  } catch {
    return false
  }
}

/** Turns it on where that is allowed; answers how to put it back as it was. */
export function letConnectionsMigrate(): () => void {
  if (connectionsMigrate()) return () => {}
  const set = (value: string): boolean => {
    try {
      writeFileSync(path, value)
      return true
    } catch {
      return false
    }
  }
  return set('1') ? () => void set('0') : () => {}
}
