// Runs the feed server: a read-only Kubernetes list/watch API from which CoreDNS reads the names of the mesh
// (io/coredns/server.ts).
import { createFeedServer, type FeedServer } from '../../io/coredns/server.ts'
import { feedAddress } from './local-facts.ts'
import type { Log } from '../observe/log.ts'
import type { Settings } from '../settings/settings.ts'
import type { Served, Service } from './services.ts'

/** The settings, and the callback that asks for the first names. */
interface FeedServiceOptions {
  readonly settings: Settings
  readonly log: Log
  /** Called after the start: the caller has to call `update`, because the server has no names yet and answers 503. */
  readonly onStarted: () => void
}

/** The service `feed`: the list/watch API for CoreDNS. */
export class FeedService implements Service {
  readonly name = 'feed'
  readonly isOnNodeAddress = false
  readonly #options: FeedServiceOptions
  /** undefined: the feed is switched off, or not started. */
  #server: FeedServer | undefined

  constructor(options: FeedServiceOptions) {
    this.#options = options
  }

  /** Starts the server, unless the settings switch it off. Errors: FeedError, for example PORT_IN_USE. */
  async start(): Promise<void> {
    const { settings, log, onStarted } = this.#options
    const listen = feedAddress(settings)
    if (listen === undefined) return
    const server = createFeedServer({ listen })
    await server.start()
    this.#server = server
    log.info({ url: server.url }, 'feed for CoreDNS')
    onStarted()
  }

  /** Gives the server the present names. It does nothing before `start`. */
  update({ view, withdrawn, balanced }: Served): void {
    this.#server?.update({ view, balanced, withdrawn: (cluster) => withdrawn.has(cluster) })
  }

  async stop(): Promise<void> {
    const server = this.#server
    this.#server = undefined
    await server?.stop()
  }
}
