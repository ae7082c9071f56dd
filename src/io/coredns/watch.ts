// One watch: a reader of the feed's log with a cursor of its own.
// Invariant: nothing is queued for it. What it has not read stays in the log, which is bounded; a reader that is so slow
// that the log has moved past its cursor is cut, and lists anew.
import type { ServerResponse } from 'node:http'

import type { Entry } from '../../core/coredns/collection.ts'
import type { FeedEvent } from '../../core/coredns/event-log.ts'
import type { Feed } from '../../core/coredns/feed.ts'
import { facetsOf, objectText } from '../../core/coredns/objects.ts'
import type { Selector } from '../../core/coredns/selector.ts'
import { singleText } from './format.ts'
import { RESOURCES, type Format, type Target, type WatchOptions } from './request.ts'
import { expired, statusBody } from './status.ts'

interface WatchParts {
  readonly feed: Feed
  readonly target: Target
  readonly watch: WatchOptions
  readonly format: Format
  readonly response: ServerResponse
  readonly timeoutMs: number
  readonly onEnd: () => void
}

export class Watch {
  readonly #parts: WatchParts
  readonly #timer: NodeJS.Timeout
  /** Objects that stood when it began, not sent yet. */
  #initial: readonly Entry[]
  #sent = 0
  #announcesEnd: boolean
  #cursor: number
  #blocked = false
  #ended = false

  constructor(parts: WatchParts) {
    const { feed, watch, target } = parts
    this.#parts = parts
    this.#initial = watch.initialEvents ? [...feed.entries(target.collection, target.resource)] : []
    // Also to a client that comes back with a version: it waits for this before it believes what it was sent.
    this.#announcesEnd = watch.initialEvents && watch.bookmarks
    this.#cursor = watch.initialEvents ? feed.resourceVersion : (watch.version ?? feed.resourceVersion)
    this.#timer = setTimeout(() => this.#timeOut(), parts.timeoutMs)
  }

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

  /** Bytes that the reader has not taken: a chunk at most, and what an object has beyond it. */
  get queuedBytes(): number {
    return this.#parts.response.writableLength
  }

  /** After the feed changed: `affected` when this watch's collection did. */
  wake(affected: boolean): void {
    if (affected) this.#pump()
    else if (this.#isIdle()) this.#cursor = this.#parts.feed.resourceVersion
  }

  /** A sign of life, and a version to go on from that does not age. */
  bookmark(): void {
    if (this.#parts.watch.bookmarks && this.#isIdle()) this.#write(this.#bookmarkText(false))
  }

  stop(): void {
    this.#parts.response.end()
    this.#end()
  }

  /** Caught up, so that the cursor may follow the feed. */
  #isIdle(): boolean {
    return !this.#ended && !this.#blocked && this.#sent >= this.#initial.length
  }

  #pump(): void {
    const { feed, target } = this.#parts
    if (!this.#ended && !feed.resumable(target.collection, this.#cursor)) return this.#cut()
    while (!this.#ended && !this.#blocked) {
      const chunk = this.#initialChunk() ?? this.#eventChunk()
      if (chunk === undefined) return
      this.#write(chunk)
    }
  }

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

  /** undefined: caught up. */
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

  /** An object that begins or ceases to match the selectors is ADDED or DELETED for this reader. */
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

  /** A blocked reader would not read the reason either. */
  #cut(): void {
    const { response } = this.#parts
    if (this.#blocked) response.destroy()
    else response.end(eventText('ERROR', JSON.stringify(statusBody(expired('too old resource version')))))
    this.#end()
  }

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

export function isWanted(entry: Entry, target: Target, matches: Selector): boolean {
  if (target.namespace !== '' && entry.namespace !== target.namespace) return false
  return matches({ namespace: entry.namespace, name: entry.name, ...facetsOf(entry.source) })
}

/** Characters to a write: fewer system calls, and little to hold for one that does not read. */
const CHUNK_CHARACTERS = 64 * 1024

function eventText(type: string, object: string): string {
  return `{"type":"${type}","object":${object}}\n`
}
