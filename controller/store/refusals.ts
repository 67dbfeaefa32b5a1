/** Owns the embedded store's refusals, in etcd's own codes and words: clients match on both. */

import { WireError } from '#shared/store/wire.ts'

const invalidArgument = 3
const notFound = 5
const permissionDenied = 7
const resourceExhausted = 8
const failedPrecondition = 9
const outOfRange = 11
const unimplemented = 12
const unavailable = 14

function refusal(code: number, words: string): () => WireError {
  return () => new WireError(code, `etcdserver: ${words}`)
}

/** One maker for each. */
export const refusals = {
  emptyKey: refusal(invalidArgument, 'key is not provided'),
  keyNotFound: refusal(invalidArgument, 'key not found'),
  valueProvided: refusal(invalidArgument, 'value is provided'),
  leaseProvided: refusal(invalidArgument, 'lease is provided'),
  tooManyOperations: refusal(invalidArgument, 'too many operations in txn request'),
  duplicateKey: refusal(invalidArgument, 'duplicate key given in txn request'),
  badSort: refusal(invalidArgument, 'invalid sort option'),
  tooLarge: refusal(invalidArgument, 'request is too large'),
  compacted: refusal(outOfRange, 'mvcc: required revision has been compacted'),
  futureRevision: refusal(outOfRange, 'mvcc: required revision is a future revision'),
  leaseNotFound: refusal(notFound, 'requested lease not found'),
  leaseExists: refusal(failedPrecondition, 'lease already exists'),
  leaseTtlTooLarge: refusal(outOfRange, 'too large lease TTL'),
  tooManyLeases: refusal(resourceExhausted, 'too many leases'),
  moved: refusal(
    failedPrecondition,
    'the store has moved; only hosts may write their own keys here',
  ),
  noSpace: refusal(resourceExhausted, 'mvcc: database space exceeded'),
  snapshotRunning: refusal(resourceExhausted, 'another snapshot is being taken'),
  tooManyRequests: refusal(resourceExhausted, 'too many requests'),
  denied: refusal(permissionDenied, 'permission denied'),
  overQuota: (limit: string) =>
    new WireError(permissionDenied, `etcdserver: permission denied: a host may have ${limit}`),
  nestedTxn: refusal(unimplemented, 'transactions inside transactions are not served here'),
  stopped: refusal(unavailable, 'server stopped'),
  writeFailed: refusal(unavailable, 'the store could not be written; see the controller’s log'),
} as const
