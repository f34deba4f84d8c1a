// Follows one order with socket.io-client-swift and misses nothing, whatever happens to the connection: ORDER TOKEN SERVER

import Foundation
import SocketIO

setvbuf(stdout, nil, _IOLBF, 0)
let (order, token, server) = (CommandLine.arguments[1], CommandLine.arguments[2], CommandLine.arguments[3])
let ends: Set = ["delivered", "returned", "cancelled"]
// How far this program has read the log of all orders, and how far it is with this one.
var position: Int?
var seq = 0

/// The library sends the same payload at every connection. Here it gets the position of the moment; a fresh token would come the same way.
final class Manager: SocketManager {
    override func connectSocket(_ socket: SocketIOClient, withPayload payload: [String: Any]? = nil) {
        var auth: [String: Any] = ["token": token]
        auth["position"] = position
        super.connectSocket(socket, withPayload: auth)
    }
}
let manager = Manager(socketURL: URL(string: server)!, config: [.forceWebsockets(true), .reconnectWait(1), .reconnectWaitMax(5)])
let socket = manager.socket(forNamespace: "/realtime")

socket.on("connected") { data, _ in
    if position == nil { position = (data[0] as? [String: Any])?["position"] as? Int }
    socket.emitWithAck("subscribe:order", ["orderId": order, "since": seq]).timingOut(after: 5) { answer in
        guard let answer = answer[0] as? [String: Any] else { return print("no answer") }      // ["NO ACK"]
        print(answer["ok"] as? Bool == true ? "following" : answer["error"] ?? answer)
    }
}
// data[1] is the offset, until this program brings a position.
socket.on("order:status_update") { data, _ in
    guard let update = data[0] as? [String: Any], let place = update["position"] as? Int, let number = update["seq"] as? Int,
          let status = update["status"] as? String else { return }
    position = max(place, position ?? 0)
    guard update["orderId"] as? String == order, number > seq else { return }                  // told already
    seq = number
    print(seq, status)
    if ends.contains(status) { exit(0) }
}
// What it calls "reconnect" is the loss; "disconnect" comes when it does not try again.
socket.on(clientEvent: .reconnect) { reason, _ in print("away:", reason[0]) }
socket.on(clientEvent: .disconnect) { reason, _ in print("over:", reason[0]) }
// A dictionary while it connects is the server's no. The library would ask again and again with the same token. A text is a fault of the
// network, and it does try again.
socket.on(clientEvent: .error) { error, _ in
    guard socket.status != .connected, let no = error[0] as? [String: Any] else { return }
    print("refused:", no["message"] ?? no)
    manager.disconnect()
    exit(1)
}
socket.connect()
// If nobody listens at its first try, the library says nothing and does not try again. This makes it try.
_ = Timer.scheduledTimer(withTimeInterval: 10, repeats: true) { _ in if socket.status == .connecting { manager.reconnect() } }
RunLoop.main.run()
