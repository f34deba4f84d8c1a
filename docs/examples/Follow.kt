// Follows one order with socket.io-client-java and misses nothing, whatever happens to the connection: ORDER TOKEN SERVER

import io.socket.client.AckWithTimeout
import io.socket.client.IO
import io.socket.client.Socket
import java.util.concurrent.ConcurrentHashMap
import java.util.concurrent.CountDownLatch
import kotlin.system.exitProcess
import org.json.JSONObject

private val FINAL = setOf("delivered", "returned", "cancelled")

fun main(args: Array<String>) {
    val (order, token, server) = args
    // How far this program has read the log of all orders, and how far it is with this one.
    var position: Long? = null
    var seq = 0
    val over = CountDownLatch(1)

    // The library reads this map at every connection, so what is in it may change.
    val auth = ConcurrentHashMap(mapOf("token" to token))
    fun isAt(place: Long) {
        position = maxOf(place, position ?: 0).also { auth["position"] = "$it" }
    }
    val options = IO.Options().also { it.auth = auth }
    val socket = IO.socket("$server/realtime", options)

    socket.on("connected") { given ->
        if (position == null) isAt((given[0] as JSONObject).getLong("position"))
        val request = JSONObject().put("orderId", order)
        if (seq > 0) request.put("since", seq)
        socket.emit("subscribe:order", arrayOf(request), object : AckWithTimeout(5_000) {
            override fun onSuccess(vararg answer: Any) = println(if ((answer[0] as JSONObject).getBoolean("ok")) "following" else answer[0])
            override fun onTimeout() = println("no answer")
        })
    }
    // given[1] is the offset, until this program brings a position.
    socket.on("order:status_update") { given ->
        val update = given[0] as JSONObject
        isAt(update.getLong("position"))
        if (update.getString("orderId") == order && update.getInt("seq") > seq) {
            seq = update.getInt("seq")
            println("$seq ${update.getString("status")}")
            if (update.getString("status") in FINAL) over.countDown()
        }
    }
    socket.on(Socket.EVENT_DISCONNECT) { reason -> println("away: ${reason[0]}") }
    // A JSONObject is the server's no, and the library does not try again; an exception is a fault of the network, and it does.
    socket.on(Socket.EVENT_CONNECT_ERROR) { error -> println("refused: ${error[0]}") }
    socket.connect()
    over.await()
    exitProcess(0)
}
