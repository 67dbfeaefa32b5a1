/** Owns a reader of a stream of events that a test listens to. */

import { request } from 'node:http'

/** Opens a stream; it is ended with the test. */
export function streamOf(
  t: { teardown(run: () => void): unknown },
  to: { readonly host: string; readonly port: number; readonly path: string },
): { readonly heard: () => string } {
  let heard = ''
  const sent = request(to, (response) => {
    response.setEncoding('utf8').on('data', (chunk: string) => (heard += chunk))
  })
  sent.on('error', () => {})
  sent.end()
  t.teardown(() => void sent.destroy())
  return { heard: () => heard }
}
