/**
 * Owns the embedded store at work: requests in, answers and watches out, as etcd's server would.
 * Writes that arrive together share one commit, so that the disk is waited for once; every answer
 * is given after its commit. Callers are trusted here: `service.ts` asks `access.ts` first. It is
 * longer than others because it has one method for each call of the API.
 */

import type { Clock, Random } from '#shared/lifecycle/clock.ts'
import { messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { HostName } from '#shared/model/names.ts'
import type {
  CompactionRequest,
  DeleteRangeRequest,
  DeleteRangeResponse,
  EtcdRpc,
  HeaderResponse,
  LeaseGrantRequest,
  LeaseGrantResponse,
  LeaseKeepAliveResponse,
  LeaseLeasesResponse,
  LeaseRequest,
  LeaseTimeToLiveRequest,
  LeaseTimeToLiveResponse,
  PutRequest,
  PutResponse,
  RangeRequest,
  RangeResponse,
  ResponseHeader,
  RpcWatch,
  RpcWatchSink,
  SnapshotResponse,
  StatusResponse,
  TxnRequest,
  TxnResponse,
  WatchCreateRequest,
  WatchResponse,
} from '#shared/store/wire.ts'
import { everyWatch, WireError } from '#shared/store/wire.ts'
import { HostQuotas } from './host-quotas.ts'
import { Leases } from './leases.ts'
import type { Mvcc, StoredEvent, Writer } from './mvcc.ts'
import { refusals } from './refusals.ts'
import * as requests from './requests.ts'
import type { Snapshots } from './snapshots.ts'
import type { HubWatch, Reader } from './watch-hub.ts'
import { WatchHub } from './watch-hub.ts'

/** Settings of an engine. */
export interface EngineSettings {
  /** Revisions of history kept. @default 10000 */
  readonly keepRevisions?: number
  /**
   * How much may be stored: beyond it puts are refused, as with etcd's quota, while deletions,
   * renewals and reads go on. @default 2 GiB, etcd's own
   */
  readonly maxBytes?: number
}

/** What metrics tell of a store. */
export interface EngineGauges {
  readonly revision: number
  readonly bytes: number
  readonly leases: number
  readonly watches: number
  readonly writable: boolean
  readonly failedCommits: number
}

/** A write waiting for its commit: `run` does it and answers how to tell its caller. */
interface Job {
  readonly run: (events: StoredEvent[]) => () => void
  readonly fail: (error: WireError) => void
}

const mostQueuedJobs = 10_000
const mostLeases = 100_000
/** As etcd's default: three election timeouts of 1 s, halved, rounded up. */
const shortestTtlSeconds = 2
const longestTtlSeconds = 9_000_000_000
/** The API served is that of etcd 3.4. */
const servedVersion = '3.4.0'
/** SQLITE_FULL: no space on the disk, or the file is as large as it may become. */
const sqliteFull = 13

const fullHint = 'free space on its disk; nothing is lost, and writes go on by themselves'
const limitHint = 'find out what fills it: etcdctl get --prefix --keys-only /mesh/v1/'

function isFull(error: unknown): boolean {
  return error instanceof Error && 'errcode' in error && error.errcode === sqliteFull
}

/** See the header. */
export class Engine implements EtcdRpc {
  readonly #mvcc: Mvcc
  readonly #random: Random
  readonly #logger: Logger
  readonly #keepRevisions: number
  readonly #leases: Leases
  readonly #hub: WatchHub
  #quotas: HostQuotas
  readonly #ids: Pick<ResponseHeader, 'cluster_id' | 'member_id'>
  readonly #snapshots: Snapshots
  readonly #maxBytes: number
  #queue: Job[] = []
  /** Why writes fail; empty while they succeed. */
  #writeProblem = ''
  #atLimit = false
  #copying: Promise<void> | null = null
  #movedTo: string
  #failedCommits = 0
  #stopped = false

  constructor(
    parts: {
      readonly mvcc: Mvcc
      readonly clock: Clock
      readonly random: Random
      readonly logger: Logger
      readonly snapshots: Snapshots
    },
    settings: EngineSettings,
  ) {
    const { mvcc, clock } = parts
    this.#snapshots = parts.snapshots
    this.#mvcc = mvcc
    this.#random = parts.random
    this.#logger = parts.logger
    this.#keepRevisions = settings.keepRevisions ?? 10_000
    this.#maxBytes = settings.maxBytes ?? 2 * 1024 ** 3
    this.#movedTo = mvcc.fact('moved_to')
    this.#ids = { cluster_id: mvcc.fact('cluster_id'), member_id: mvcc.fact('member_id') }
    this.#quotas = new HostQuotas(mvcc.everything())
    this.#leases = new Leases({ clock, onLapsed: (id) => this.#lapse(id) }, mvcc.leases())
    this.#hub = new WatchHub({ mvcc, clock, answer: (watchId) => this.watchAnswer(watchId) })
  }

  /** Header of an answer given now. */
  header(): ResponseHeader {
    return { ...this.#ids, revision: String(this.#mvcc.revision), raft_term: '1' }
  }

  async range(request: RangeRequest): Promise<RangeResponse> {
    this.#refuseWhenStopped()
    return requests.range(this.#mvcc, this.header(), request)
  }

  /**
   * @param host - the host that writes what it owns, which it may also once the store has moved, but
   * no more than its share; null: somebody else
   */
  put(request: PutRequest, _options?: unknown, host: HostName | null = null): Promise<PutResponse> {
    return this.#write((writer) => {
      if (host === null) this.#refuseMoved()
      else this.#quotas.checkPut(host, request, this.#isNew(request.key))
      this.#refuseAtLimit()
      return requests.put(this.#mvcc, writer, this.header(), request)
    })
  }

  /** @param host - see `put` */
  deleteRange(
    request: DeleteRangeRequest,
    _options?: unknown,
    host: HostName | null = null,
  ): Promise<DeleteRangeResponse> {
    return this.#write((writer) => {
      if (host === null) this.#refuseMoved()
      return requests.deleteRange(this.#mvcc, writer, this.header(), request)
    })
  }

  /** @param host - see `put` */
  txn(request: TxnRequest, _options?: unknown, host: HostName | null = null): Promise<TxnResponse> {
    if (requests.isRead(request)) return this.#readTxn(request)
    const puts = [...(request.success ?? []), ...(request.failure ?? [])].some(
      (operation) => operation.request_put,
    )
    return this.#write((writer) => {
      if (host === null) this.#refuseMoved()
      else this.#quotas.checkTxn(host, request, (key) => this.#isNew(key))
      if (puts) this.#refuseAtLimit()
      return requests.txn(this.#mvcc, writer, this.header(), request)
    })
  }

  /** Waits for no write, as a range does: it is answered where none can be, too. */
  async #readTxn(request: TxnRequest): Promise<TxnResponse> {
    this.#refuseWhenStopped()
    return requests.txn(this.#mvcc, this.#mvcc.writer(), this.header(), request)
  }

  compact(request: CompactionRequest): Promise<HeaderResponse> {
    return this.#write(() => {
      this.#mvcc.compact(requests.checkCompaction(this.#mvcc, request))
      return { header: this.header() }
    })
  }

  /**
   * @param owner - who may use the lease: a SPIFFE id, or empty for this process
   * @param isHost - whether that is a host, which has its share of leases
   */
  leaseGrant(
    request: LeaseGrantRequest,
    _options?: unknown,
    owner = '',
    isHost = false,
  ): Promise<LeaseGrantResponse> {
    const asked = Number(request.TTL ?? 0)
    const id = (request.ID ?? '0') === '0' ? this.#newLeaseId() : (request.ID ?? '0')
    const lease = { id, ttlSeconds: Math.max(asked, shortestTtlSeconds), owner }
    return this.#write(
      () => {
        if (asked > longestTtlSeconds) throw refusals.leaseTtlTooLarge()
        if (this.#mvcc.lease(id) !== null) throw refusals.leaseExists()
        if (this.#leases.size >= mostLeases) throw refusals.tooManyLeases()
        if (isHost) HostQuotas.checkLease(lease.ttlSeconds, this.#mvcc.leasesOf(owner))
        this.#mvcc.addLease(lease)
        return { header: this.header(), ID: id, TTL: String(lease.ttlSeconds), error: '' }
      },
      () => this.#leases.arm(lease),
    )
  }

  leaseRevoke(request: LeaseRequest): Promise<HeaderResponse> {
    const id = request.ID ?? '0'
    return this.#write(
      (writer) => {
        if (this.#mvcc.lease(id) === null) throw refusals.leaseNotFound()
        for (const key of this.#mvcc.keysOf(id)) writer.remove(key)
        this.#mvcc.removeLease(id)
        return { header: { ...this.header(), revision: String(writer.revision) } }
      },
      () => this.#leases.drop(id),
    )
  }

  async leaseKeepAlive(request: LeaseRequest): Promise<LeaseKeepAliveResponse> {
    this.#refuseWhenStopped()
    const ID = request.ID ?? '0'
    return { header: this.header(), ID, TTL: String(this.#leases.renew(ID)) }
  }

  async leaseTimeToLive(request: LeaseTimeToLiveRequest): Promise<LeaseTimeToLiveResponse> {
    this.#refuseWhenStopped()
    const ID = request.ID ?? '0'
    const left = this.#leases.remaining(ID)
    return {
      header: this.header(),
      ID,
      TTL: String(left?.seconds ?? -1),
      grantedTTL: String(left?.ttlSeconds ?? 0),
      keys: left !== null && request.keys === true ? this.#mvcc.keysOf(ID) : [],
    }
  }

  async leaseLeases(): Promise<LeaseLeasesResponse> {
    this.#refuseWhenStopped()
    return { header: this.header(), leases: this.#leases.ids.map((ID) => ({ ID })) }
  }

  async *snapshot(): AsyncIterable<SnapshotResponse> {
    this.#refuseWhenStopped()
    yield* this.#snapshots.take((path) => this.#copyTo(path))
  }

  async status(): Promise<StatusResponse> {
    this.#refuseWhenStopped()
    const { bytes, used } = this.#mvcc.size()
    const header = this.header()
    return {
      header,
      version: servedVersion,
      dbSize: String(bytes),
      dbSizeInUse: String(used),
      leader: header.member_id,
      raftIndex: header.revision,
      raftTerm: header.raft_term,
      raftAppliedIndex: header.revision,
      errors: this.#writeProblem === '' ? [] : [this.#writeProblem],
    }
  }

  /** What metrics tell. */
  get gauges(): EngineGauges {
    return {
      revision: this.#mvcc.revision,
      bytes: this.#mvcc.size().bytes,
      leases: this.#leases.size,
      watches: this.#hub.size,
      writable: this.#writeProblem === '',
      failedCommits: this.#failedCommits,
    }
  }

  /** Where its content is now; empty for a store that has not moved. */
  get movedTo(): string {
    return this.#movedTo
  }

  /** From now on only hosts write. Forgotten by the next start, unless it was `isFinal`. */
  moveTo(to: string, isFinal: boolean): Promise<void> {
    return this.#write(
      () => {
        if (isFinal || to === '') this.#mvcc.setFact('moved_to', to)
      },
      () => {
        this.#movedTo = to
      },
    )
  }

  /** Who granted a lease, or null when there is none. */
  leaseOwner(id: string): string | null {
    return this.#mvcc.lease(id)?.owner ?? null
  }

  /** A watch's answer that says nothing but where the store is. */
  watchAnswer(watchId: string): WatchResponse {
    return {
      header: this.header(),
      watch_id: watchId,
      created: false,
      canceled: false,
      compact_revision: '0',
      cancel_reason: '',
      fragment: false,
      events: [],
    }
  }

  /** A watch whose reader may be slow. */
  openWatch(request: WatchCreateRequest, watchId: string, reader: Reader): HubWatch {
    return this.#hub.open(request, watchId, reader)
  }

  watch(request: WatchCreateRequest, sink: RpcWatchSink): RpcWatch {
    let over = false
    const watch = this.#hub.open(request, '0', {
      isReady: true,
      take: (response) => {
        if (!over) sink.onResponse(response)
      },
    })
    return {
      requestProgress: () =>
        queueMicrotask(() => {
          if (!over && watch.current) sink.onResponse(this.watchAnswer(everyWatch))
        }),
      cancel: () => {
        over = true
        watch.cancel()
      },
    }
  }

  /** The clients of this process share one engine; `stop` ends it. */
  close(): void {}

  /** Commits what is queued, then refuses everything. Waits for a copy that is being made. */
  async stop(): Promise<void> {
    await this.#copying?.catch(() => {})
    if (this.#stopped) return
    this.#flush()
    this.#stopped = true
    this.#leases.stop()
    this.#hub.stop()
    this.#mvcc.close()
  }

  /** Writes wait meanwhile: SQLite gives up a copy beside which its own connection writes. */
  async #copyTo(path: string): Promise<void> {
    this.#copying = this.#mvcc.copyTo(path)
    try {
      await this.#copying
    } finally {
      this.#copying = null
      this.#flush()
    }
  }

  #refuseWhenStopped(): void {
    if (this.#stopped) throw refusals.stopped()
  }

  #isNew(key: Buffer | undefined): boolean {
    return key === undefined || this.#mvcc.live(key) === null
  }

  #refuseMoved(): void {
    if (this.#movedTo !== '') throw refusals.moved()
  }

  #refuseAtLimit(): void {
    if (this.#atLimit) throw refusals.noSpace()
  }

  /** Queues a write; `committed` runs once it is on disk, before its caller is told. */
  #write<T>(run: (writer: Writer) => T, committed?: () => void): Promise<T> {
    return new Promise((resolve, reject) => {
      if (this.#stopped) {
        reject(refusals.stopped())
        return
      }
      if (this.#queue.length >= mostQueuedJobs) {
        reject(refusals.tooManyRequests())
        return
      }
      this.#queue.push({
        fail: reject,
        run: (events) => {
          const writer = this.#mvcc.writer()
          try {
            const result = run(writer)
            events.push(...writer.events)
            this.#quotas.changed(writer.events)
            return () => {
              committed?.()
              resolve(result)
            }
          } catch (error) {
            if (!(error instanceof WireError)) throw error
            return () => reject(error)
          }
        },
      })
      if (this.#queue.length === 1) setImmediate(() => this.#flush())
    })
  }

  #flush(): void {
    const jobs = this.#queue
    if (jobs.length === 0 || this.#stopped || this.#copying !== null) return
    this.#queue = []
    const events: StoredEvent[] = []
    this.#atLimit = this.#mvcc.size().used >= this.#maxBytes
    try {
      const answers = this.#mvcc.transaction(() => {
        const answered = jobs.map((job) => job.run(events))
        this.#compactByItself()
        return answered
      })
      if (this.#atLimit)
        this.#complain(`its limit of ${this.#maxBytes} bytes is reached`, limitHint)
      else this.#recovered()
      this.#hub.committed(events)
      for (const answer of answers) answer()
    } catch (error) {
      const refuse = isFull(error) ? refusals.noSpace : refusals.writeFailed
      // What was counted has not come to be.
      this.#quotas = new HostQuotas(this.#mvcc.everything())
      this.#failedCommits += 1
      this.#complain(messageOf(error), isFull(error) ? fullHint : 'check the disk it is on')
      for (const job of jobs) job.fail(refuse())
    }
  }

  /** Told once for as long as it lasts: clients try again and again. */
  #complain(problem: string, hint: string): void {
    if (problem === this.#writeProblem) return
    this.#writeProblem = problem
    this.#logger.error({ problem, hint }, 'store: it takes no writes; reads go on')
  }

  #recovered(): void {
    if (this.#writeProblem === '') return
    this.#writeProblem = ''
    this.#logger.info('store: writes succeed again')
  }

  #compactByItself(): void {
    const oldest = this.#mvcc.revision - this.#keepRevisions
    if (oldest > this.#mvcc.compacted + this.#keepRevisions / 10) this.#mvcc.compact(oldest)
  }

  #lapse(id: string): void {
    this.leaseRevoke({ ID: id }).catch((error: unknown) => {
      const lease = this.#stopped ? null : this.#mvcc.lease(id)
      if (lease === null) this.#leases.drop(id)
      else this.#leases.arm(lease)
      if (this.#stopped || this.#writeProblem !== '') return
      this.#logger.error({ err: error, lease: id }, 'store: lease not ended')
    })
  }

  #newLeaseId(): string {
    const id = this.#random.bytes(8).readBigUInt64BE() >> 1n
    return id === 0n ? '1' : id.toString()
  }
}
