/** Owns what a person reads when gRPC reaches nobody: the socket's own words, without gRPC's frame. */

const frame =
  /^(?:\w+: )?No connection established\. Last error: (?:\w*Error: )?(.*?)(?:\. Resolution note: (.*))?$/s

/** A gRPC error's details as `connect ECONNREFUSED 10.0.0.1:15010`; other words stay as they are. */
export function connectWords(details: string): string {
  const [, words, note = ''] = frame.exec(details) ?? []
  if (words === undefined) return details
  const said = words === 'null' ? 'no connection established' : words
  return note === '' ? said : `${said} (${note})`
}
