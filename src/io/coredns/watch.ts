// Serves one watch: reads the log of changes with a cursor of its own and sends events as lines of JSON.
// Invariant: no events are queued for a watch. Events that it has not read stay in the log, which is bounded. If the
// log has moved past the cursor of a slow client, the watch is ended, and the client lists again.
// Source: Kubernetes API concepts, "Efficient detection of changes"; KEP-956 (bookmarks), KEP-3157 (initial events).
import type { ServerResponse } from 'node:http'

import type { Entry } from '../../core/coredns/collection.ts'
import type { FeedEvent } from '../../core/coredns/event-log.ts'
import type { Feed } from '../../core/coredns/feed.ts'
import { facetsOf, objectText } from '../../core/coredns/objects.ts'
import type { Selector } from '../../core/coredns/selector.ts'
import { singleText } from './format.ts'
import { RESOURCES, type Format, type Target, type WatchOptions } from './request.ts'
import { expired, statusBody } from './status.ts'

/** The parts that server.ts gives to a watch. */
interface WatchParts {
  readonly feed: Feed
  readonly target: Target
  readonly watch: WatchOptions
  readonly format: Format
  readonly response: ServerResponse
  /** Milliseconds after which the watch ends in order. */
  readonly timeoutMs: number
  /** Called once, when the watch has ended for any reason. */
  readonly onEnd: () => void
}

/**
 * One watch of one client. It begins with `start`. It ends after `timeoutMs`, by `stop`, when its connection closes, or
 * when the log no longer has the events after its cursor.
 */
export class Watch {
  readonly #parts: WatchParts
  readonly #timer: NodeJS.Timeout
  /** The objects that are sent as initial events, as they were when the watch began; emptied when all are sent. */
  #initial: readonly Entry[]
  /** Number of objects of `#initial` that are sent. */
  #sent = 0
  /** True until the bookmark is sent that marks the end of the initial events, if the client asked for one. */
  #announcesEnd: boolean
  /** The version of the last event that was read from the log. */
  #cursor: number
  /** True while the client does not read: nothing is written before the connection's event 'drain'. */
  #blocked = false
  #ended = false

  constructor(parts: WatchParts) {
    const { feed, watch, target } = parts
    this.#parts = parts
    this.#initial = watch.initialEvents ? [...feed.entries(target.collection, target.resource)] : []
    // A client that gives a version with sendInitialEvents waits for this bookmark, too, before it uses the objects.
    this.#announcesEnd = watch.initialEvents && watch.bookmarks
    this.#cursor = watch.initialEvents ? feed.resourceVersion : (watch.version ?? feed.resourceVersion)
    this.#timer = setTimeout(() => this.#timeOut(), parts.timeoutMs)
  }

  /** Sends the head of the answer and the first events. */
  start(): void {
    const { response } = this.#parts
    response.writeHead(200, { 'content-type': 'application/json', 'cache-control': 'no-cache, private' })
    response.flushHeaders()
    response.on('drain', () => {
      this.#blocked = false
      this.#pump()
    })
    response.on('close', () => this.#end())
    this.#pump()
  }

  /** Bytes that the client has not read: at most one chunk, and the part of its last object beyond that. */
  get queuedBytes(): number {
    return this.#parts.response.writableLength
  }

  /** Call after each change of the feed. `affected`: the collection of this watch has new events. */
  wake(affected: boolean): void {
    if (affected) this.#pump()
    // Without events for this watch, the cursor follows the feed, so that the log does not move past it.
    else if (this.#isIdle()) this.#cursor = this.#parts.feed.resourceVersion
  }

  /** Sends a bookmark: a sign of life, and a recent version from which the client can resume. */
  bookmark(): void {
    if (this.#parts.watch.bookmarks && this.#isIdle()) this.#write(this.#bookmarkText(false))
  }

  /** Ends the watch in order, without a last bookmark. */
  stop(): void {
    this.#parts.response.end()
    this.#end()
  }

  /**
   * Returns whether this watch runs, the client reads, and all initial events are sent. Only then may the cursor move
   * on to the newest version of the feed.
   */
  #isIdle(): boolean {
    return !this.#ended && !this.#blocked && this.#sent >= this.#initial.length
  }

  /** Writes chunks until all is sent or the client does not read. */
  #pump(): void {
    const { feed, target } = this.#parts
    if (!this.#ended && !feed.resumable(target.collection, this.#cursor)) return this.#cut()
    while (!this.#ended && !this.#blocked) {
      const chunk = this.#initialChunk() ?? this.#eventChunk()
      if (chunk === undefined) return
      this.#write(chunk)
    }
  }

  /** Returns the next initial events, or the bookmark that ends them; undefined: all are sent. */
  #initialChunk(): string | undefined {
    const { target, format } = this.#parts
    if (this.#sent < this.#initial.length) {
      let chunk = ''
      while (this.#sent < this.#initial.length && chunk.length < CHUNK_CHARACTERS) {
        const entry = this.#initial[this.#sent++]
        if (entry === undefined || !isWanted(entry, target, this.#parts.watch.matches)) continue
        chunk += eventText(
          'ADDED',
          singleText(objectText(entry.source, entry.resourceVersion), target.resource, format)
        )
      }
      if (this.#sent >= this.#initial.length) {
        this.#initial = []
        this.#sent = 0
        return chunk + (this.#endOfInitial() ?? '')
      }
      return chunk
    }
    return this.#endOfInitial()
  }

  #endOfInitial(): string | undefined {
    if (!this.#announcesEnd) return undefined
    this.#announcesEnd = false
    return this.#bookmarkText(true)
  }

  /** Returns the next events of the log; undefined: there are none for this watch. */
  #eventChunk(): string | undefined {
    const { feed, target } = this.#parts
    let chunk = ''
    while (chunk.length < CHUNK_CHARACTERS) {
      const event = feed.eventAfter(this.#cursor)
      if (event === undefined) {
        this.#cursor = feed.resourceVersion
        break
      }
      this.#cursor = event.resourceVersion
      if (event.collection === target.collection && event.resource === target.resource)
        chunk += this.#eventOf(event)
    }
    return chunk === '' ? undefined : chunk
  }

  /**
   * Returns the event as this watch sees it, '' if it does not see the object. An object that begins or ceases to match
   * the selectors is ADDED or DELETED.
   */
  #eventOf(event: FeedEvent): string {
    const { target, watch, format } = this.#parts
    if (target.namespace !== '' && event.namespace !== target.namespace) return ''
    const { namespace, name, facets, facetsBefore } = event
    const matches = watch.matches({ namespace, name, ...facets })
    const matched =
      event.type === 'MODIFIED'
        ? watch.matches({ namespace, name, ...(facetsBefore ?? facets) })
        : event.type === 'DELETED' && matches
    if (!matches && !matched) return ''
    const type = event.type === 'DELETED' ? 'DELETED' : !matched ? 'ADDED' : matches ? 'MODIFIED' : 'DELETED'
    return eventText(type, singleText(event.text, event.resource, format))
  }

  /** `endsInitial` adds the annotation by which clients recognise the end of the initial events. */
  #bookmarkText(endsInitial: boolean): string {
    const { target, format, feed } = this.#parts
    const { kind, apiVersion } = RESOURCES[target.resource]
    const shown =
      format === 'object'
        ? { kind, apiVersion }
        : { kind: 'PartialObjectMetadata', apiVersion: 'meta.k8s.io/v1' }
    const version = this.#isIdle() && !endsInitial ? feed.resourceVersion : this.#cursor
    const metadata = {
      resourceVersion: String(version),
      ...(endsInitial ? { annotations: { 'k8s.io/initial-events-end': 'true' } } : {})
    }
    return eventText('BOOKMARK', JSON.stringify({ ...shown, metadata }))
  }

  #write(chunk: string): void {
    if (chunk !== '') this.#blocked = !this.#parts.response.write(chunk)
  }

  /** Ends the watch with status 410. A blocked client would not read the reason either, so its connection is closed. */
  #cut(): void {
    const { response } = this.#parts
    if (this.#blocked) response.destroy()
    else response.end(eventText('ERROR', JSON.stringify(statusBody(expired('too old resource version')))))
    this.#end()
  }

  /** Ends the watch in order, with a last bookmark for a client that accepts bookmarks, from which it resumes. */
  #timeOut(): void {
    if (this.#blocked) this.#parts.response.destroy()
    else
      this.#parts.response.end(this.#parts.watch.bookmarks && this.#isIdle() ? this.#bookmarkText(false) : '')
    this.#end()
  }

  #end(): void {
    if (this.#ended) return
    this.#ended = true
    clearTimeout(this.#timer)
    this.#parts.onEnd()
  }
}

/** Says whether an object is in the namespace of the request and matches its selectors. */
export function isWanted(entry: Entry, target: Target, matches: Selector): boolean {
  if (target.namespace !== '' && entry.namespace !== target.namespace) return false
  return matches({ namespace: entry.namespace, name: entry.name, ...facetsOf(entry.source) })
}

/** The size of a write, in characters: fewer system calls, and little to hold for a client that does not read. */
const CHUNK_CHARACTERS = 64 * 1024

/** One line of the answer. */
function eventText(type: string, object: string): string {
  return `{"type":"${type}","object":${object}}\n`
}
